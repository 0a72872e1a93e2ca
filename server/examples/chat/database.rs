//! The database of the chat.

use tokio_rusqlite::{Connection, Error, Result, rusqlite::Error::QueryReturnedNoRows};

/// A handle of the database. SQLite runs on a thread of its own.
#[derive(Clone)]
pub(crate) struct Database(Connection);

impl Database {
    /// Opens a file, and creates its tables and two users.
    pub(crate) async fn open(file: String) -> Result<Self> {
        const TABLES: &str = "CREATE TABLE IF NOT EXISTS users (token TEXT PRIMARY KEY, name TEXT);
             CREATE TABLE IF NOT EXISTS messages (topic TEXT, line TEXT);
             CREATE INDEX IF NOT EXISTS by_topic ON messages (topic);
             INSERT OR IGNORE INTO users VALUES ('ada', 'Ada'), ('bob', 'Bob')";
        let database = Connection::open(file).await?;
        database.call(|it| it.execute_batch(TABLES)).await?;
        Ok(Self(database))
    }

    /// Returns the name of the user with a token.
    pub(crate) async fn find_user(self, token: String) -> Result<Option<String>> {
        const QUERY: &str = "SELECT name FROM users WHERE token = ?";
        let found = self
            .0
            .call(|it| it.query_row(QUERY, [token], |row| row.get(0)));
        match found.await {
            Ok(name) => Ok(Some(name)),
            Err(Error::Error(QueryReturnedNoRows)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the latest messages of two topics, the oldest first.
    pub(crate) async fn latest(self, topics: [String; 2]) -> Result<Vec<String>> {
        const QUERY: &str = "SELECT line FROM (SELECT rowid, line FROM messages WHERE topic IN \
                             (?, ?) ORDER BY rowid DESC LIMIT 20) ORDER BY rowid";
        let read = self.0.call(|it| {
            let mut query = it.prepare(QUERY)?;
            query.query_map(topics, |row| row.get(0))?.collect()
        });
        read.await
    }

    /// Stores a message.
    pub(crate) async fn store(self, topic: String, line: String) -> Result<()> {
        const INSERT: &str = "INSERT INTO messages VALUES (?, ?)";
        let insert = self.0.call(|it| it.execute(INSERT, [topic, line]));
        insert.await.map(drop)
    }
}

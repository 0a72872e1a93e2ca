//! Values of the configuration file, in the notation of the command line.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};

/// A text, a number or a boolean, as the text that the command line would have.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
        file.deserialize_any(OneVisitor)
    }
}

/// Implements `Deserialize` by `FromStr`: from a text, a number or a boolean.
macro_rules! from_file {
    ($($({ $($generics:tt)* })? $name:ty),*) => {$(
        impl<'de $(, $($generics)*)?> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
                let text = <$crate::cli::file_value::Text as serde::Deserialize>::deserialize(file)?;
                text.0.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(super) use from_file;

/// Reads one text.
pub(super) fn one<'de, D: Deserializer<'de>>(file: D) -> Result<Option<String>, D::Error> {
    Text::deserialize(file).map(|text| Some(text.0))
}

/// Reads a list: an array, or a text with commas.
pub(super) fn list<'de, T, D>(file: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    let texts = file.deserialize_any(ListVisitor)?;
    let values = texts.iter().map(|text| text.parse());
    let values: Result<Vec<T>, _> = values.collect();
    values.map(Some).map_err(de::Error::custom)
}

/// Reads a list that is not empty.
pub(super) fn some<'de, T, D>(file: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    match list(file)? {
        Some(values) if values.is_empty() => Err(de::Error::custom(
            "the list is empty; leave the entry out, or list at least one value",
        )),
        values => Ok(values),
    }
}

struct OneVisitor;

impl<'de> de::Visitor<'de> for OneVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one text or number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<Text, A::Error> {
        Err(de::Error::custom(
            "the option has one value; write it without brackets",
        ))
    }
}

struct ListVisitor;

impl<'de> de::Visitor<'de> for ListVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts, or one text with commas")
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(Text(text)) = list.next_element()? {
            texts.push(text);
        }
        Ok(texts)
    }
}

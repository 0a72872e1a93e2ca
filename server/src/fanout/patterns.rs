//! A tree of patterns, which finds the patterns that match a topic level by level.

use std::collections::HashMap;

use crate::topic::{Level, levels, pattern_levels};

/// A tree of patterns, each with a number.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    root: Branch,
    count: usize,
}

/// The patterns that begin with the levels of this branch.
#[derive(Debug, Default)]
struct Branch {
    names: HashMap<Box<str>, Self>,
    any: Option<Box<Self>>,
    /// The pattern that ends here.
    end: Option<u32>,
    /// The pattern that continues with `>`.
    rest: Option<u32>,
}

impl Patterns {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a pattern that is not in the tree.
    pub(super) fn insert(&mut self, pattern: &str, number: u32) {
        let mut branch = &mut self.root;
        self.count += 1;
        for level in pattern_levels(pattern) {
            branch = match level {
                Level::Name(name) => branch.names.entry(name.into()).or_default(),
                Level::Any => branch.any.get_or_insert_default(),
                Level::Rest => {
                    branch.rest = Some(number);
                    return;
                }
            };
        }
        branch.end = Some(number);
    }

    /// Removes a pattern that is in the tree.
    pub(super) fn remove(&mut self, pattern: &str) {
        self.count -= 1;
        self.root.remove(&mut pattern_levels(pattern));
    }

    /// Calls `found` with the number of each pattern that matches `topic`.
    pub(super) fn matching(&self, topic: &str, found: &mut impl FnMut(u32)) {
        if !self.is_empty() {
            self.root.matching(Some(topic), found);
        }
    }
}

impl Branch {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.any.is_none() && self.end.is_none() && self.rest.is_none()
    }

    fn remove<'a>(&mut self, levels: &mut impl Iterator<Item = Level<'a>>) {
        match levels.next() {
            None => self.end = None,
            Some(Level::Rest) => self.rest = None,
            Some(Level::Any) => {
                if let Some(branch) = &mut self.any {
                    branch.remove(levels);
                    if branch.is_empty() {
                        self.any = None;
                    }
                }
            }
            Some(Level::Name(name)) => {
                if let Some(branch) = self.names.get_mut(name) {
                    branch.remove(levels);
                    if branch.is_empty() {
                        self.names.remove(name);
                    }
                }
            }
        }
    }

    fn matching(&self, topic: Option<&str>, found: &mut impl FnMut(u32)) {
        let Some(topic) = topic else {
            self.end.iter().for_each(|&number| found(number));
            return;
        };
        self.rest.iter().for_each(|&number| found(number));
        let level = levels(topic).next().unwrap_or_default();
        let rest = topic.get(level.len() + 1..);
        if let Some(branch) = self.names.get(level) {
            branch.matching(rest, found);
        }
        if let Some(branch) = &self.any {
            branch.matching(rest, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::matches;

    #[test]
    fn the_tree_finds_the_same_patterns_as_matching_one_by_one() {
        let names = ["a", "b", "c", "*"];
        let mut all: Vec<String> = names.map(str::to_owned).to_vec();
        for first in names {
            for second in names.into_iter().chain([">"]) {
                all.push(format!("{first}/{second}"));
                if second != ">" {
                    all.extend(["a", "*", ">"].map(|third| format!("{first}/{second}/{third}")));
                }
            }
        }
        all.push(">".to_owned());
        let mut tree = Patterns::default();
        for (pattern, number) in all.iter().zip(0..) {
            tree.insert(pattern, number);
        }
        for removed in 0..all.len() {
            for topic in ["a", "b/c", "a/b", "a/b/a", "c/b/a", "c/c/c", "a/b/c/d", "d"] {
                let mut found = Vec::new();
                tree.matching(topic, &mut |number| found.push(number));
                found.sort_unstable();
                let expected: Vec<u32> = (removed as u32..all.len() as u32)
                    .filter(|&number| matches(&all[number as usize], topic))
                    .collect();
                assert_eq!(found, expected, "{topic} with {removed} removed");
            }
            tree.remove(&all[removed]);
        }
        assert!(
            tree.is_empty() && tree.root.is_empty(),
            "every branch is removed"
        );
    }
}

//! From the tree to a [`Spec`](super::Spec), with every fault in one run.
//!
//! serde stops at the first error, so whoever asks for a whole value (an item of a list, an entry of a mapping,
//! the value of a key) asks again after a fault: the fault is reported and the smallest node that holds it is
//! *poisoned*, which is to say, read as absent from then on. A value that lacks something poisoned that it
//! requires is poisoned in turn, without a word. Each try poisons at least one node more, and tries are
//! repeated where the value is, not from the top, so the work is bounded by faults (capped) times depth
//! (capped) times the size of the section, and a budget of steps is the last resort.

mod access;

use std::{
    any::type_name,
    cell::{Cell, RefCell},
    collections::HashMap,
};

use serde::{
    Deserialize,
    de::{self, Visitor},
};

use access::{Choice, Entries, Items};

use super::{
    diagnostic::{Diagnostic, MAX_REPORTS},
    document::{Document, Kind, MAX_NODES, NodeId},
    fault::{Fault, What, shortened},
    plain::{Plain, is_null},
};
use crate::{
    observe::AccessLogSpec,
    types::{ConfigPath, Secret, closest},
};

/// Values visited in one run: a full file some times over.
const MAX_STEPS: u64 = 8 * MAX_NODES;

/// Decodes the tree. `None` when so much is missing that not even a partial value can be made.
pub(in crate::config) fn decode<'d, T: Deserialize<'d>>(document: &'d Document, found: &mut Vec<Diagnostic>) -> Option<T> {
    let root = document.root()?;
    let cx = Cx {
        document,
        room: MAX_REPORTS.saturating_sub(found.len()),
        found: RefCell::default(),
        meant: RefCell::default(),
        supplied: RefCell::default(),
        steps: Cell::new(0),
    };
    let value = cx.attempt(root, root);
    found.append(&mut cx.found.borrow_mut());
    value
}

struct Cx<'d> {
    document: &'d Document,
    /// How many reports may be made.
    room: usize,
    found: RefCell<Vec<Diagnostic>>,
    /// Misspelt keys and what was probably meant: that is not reported as missing.
    meant: RefCell<HashMap<NodeId, String>>,
    /// Required keys of the root that are read as empty, so that the other sections are checked all the same.
    supplied: RefCell<Vec<&'static str>>,
    steps: Cell<u64>,
}

impl<'d> Cx<'d> {
    fn exhausted(&self) -> bool {
        self.found.borrow().len() >= self.room || self.steps.get() > MAX_STEPS
    }

    /// The value of a node, or `None` when it could not be decoded, which was reported. `owner` is poisoned then.
    fn attempt<T: Deserialize<'d>>(&self, node: NodeId, owner: NodeId) -> Option<T> {
        loop {
            if self.exhausted() || self.document.is_poisoned(node) || self.document.is_poisoned(owner) {
                self.document.poison(owner);
                return None;
            }
            match T::deserialize(De { cx: self, node, bare: false }) {
                Ok(value) => return Some(value),
                Err(fault) => self.report(fault.at(node), node),
            }
        }
    }

    fn report(&self, fault: Fault, tried: NodeId) {
        let node = fault.node.unwrap_or(tried);
        match &fault.what {
            What::Again => return,
            What::Silent => return self.document.poison(tried),
            What::Missing(key) => {
                let lost = self.lost(node, key);
                if !lost {
                    self.say(&fault, node);
                }
                if Some(node) == self.document.root() && !self.supplied.borrow().contains(key) {
                    return self.supplied.borrow_mut().push(key);
                }
                // The alias and not its target, which may do elsewhere.
                self.document.poison(if self.document.same(node, tried) { tried } else { node });
                return;
            }
            What::UnknownKey { key, known } => {
                if let Some(meant) = closest(key, known.iter().copied()) {
                    self.meant.borrow_mut().insert(node, meant.into());
                }
            }
            // A choice whose kind was reported.
            What::Mismatch { .. } if self.document.has_lost_something(node) => return self.document.poison(tried),
            _ => {}
        }
        self.say(&fault, node);
        // A fault in a node that is poisoned already would be found for ever.
        let again = self.document.is_poisoned(node);
        self.document.poison(if again { tried } else { node });
    }

    fn say(&self, fault: &Fault, node: NodeId) {
        let Some(words) = fault.words(self.document, node) else { return };
        let place = self.document.place(node);
        self.found.borrow_mut().push(Diagnostic::new(words.code, words.message, place).hint(words.hint));
    }

    /// Was an entry skipped whose key is this one, or was probably meant to be?
    fn lost(&self, map: NodeId, key: &str) -> bool {
        let meant = self.meant.borrow();
        self.document.entries(map).iter().any(|(name, value)| {
            let gone = self.document.is_poisoned(*name) || self.document.is_poisoned(*value);
            gone && (self.document.key_text(*name) == key || meant.get(name).is_some_and(|meant| meant == key))
        })
    }
}

/// A node, as serde wants it.
#[derive(Clone, Copy)]
struct De<'c, 'd> {
    cx: &'c Cx<'d>,
    node: NodeId,
    /// A kind written without options: its options are an empty mapping.
    bare: bool,
}

impl<'c, 'd> De<'c, 'd> {
    fn kind(&self) -> &'d Kind {
        static NO_OPTIONS: Kind = Kind::Map(Vec::new());
        if self.bare { &NO_OPTIONS } else { self.cx.document.kind(self.node) }
    }
    fn step(&self) -> Result<(), Fault> {
        self.cx.steps.set(self.cx.steps.get() + 1);
        if self.cx.steps.get() > MAX_STEPS { Err(Fault::new(What::Silent)) } else { Ok(()) }
    }
    fn is_null(&self) -> bool {
        matches!(self.kind(), Kind::Scalar(scalar) if is_null(scalar))
    }
    fn unexpected<V: Visitor<'d>>(&self, visitor: &V) -> Fault {
        let found = match self.kind() {
            Kind::Scalar(scalar) if is_null(scalar) => "nothing".into(),
            Kind::Scalar(scalar) => format!("`{}`", shortened(&scalar.text)),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) | Kind::Alias(_) => "a mapping".into(),
        };
        Fault::mismatch(found, visitor).at(self.node)
    }
    fn number<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.step()?;
        let Kind::Scalar(scalar) = self.kind() else { return Err(self.unexpected(&visitor)) };
        if !scalar.plain && scalar.written.is_none() {
            return Err(self.unexpected(&visitor));
        }
        let number = match Plain::of(&scalar.text) {
            Plain::Unsigned(number) => visitor.visit_u64(number),
            Plain::Signed(number) => visitor.visit_i64(number),
            Plain::Float(number) => visitor.visit_f64(number),
            _ => return Err(self.unexpected(&visitor)),
        };
        number.map_err(|fault: Fault| fault.at(self.node))
    }
    fn text<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.step()?;
        match self.kind() {
            Kind::Scalar(scalar) if !is_null(scalar) => {
                visitor.visit_str(&scalar.text).map_err(|fault: Fault| fault.at(self.node))
            }
            _ => Err(self.unexpected(&visitor)),
        }
    }
    fn map<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.step()?;
        let entries: &[_] = match self.kind() {
            Kind::Map(entries) => entries,
            // A section whose every line is commented out.
            Kind::Scalar(scalar) if is_null(scalar) => &[],
            _ => return Err(self.unexpected(&visitor)),
        };
        let supplied = if Some(self.node) == self.cx.document.root() { self.cx.supplied.borrow().clone() } else { Vec::new() };
        let mut map = Entries { cx: self.cx, map: self.node, entries: entries.iter(), value: None, supplied };
        let value = visitor.visit_map(&mut map).map_err(|fault| fault.at(self.node))?;
        match map.next() {
            None => Ok(value),
            _ if self.cx.exhausted() => Err(Fault::new(What::Silent)),
            // A choice takes its kind and asks for no more: what else is there would do nothing.
            Some((key, _)) => Err(Fault::one_kind().at(key)),
        }
    }
    fn list<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.step()?;
        let items: &[_] = match self.kind() {
            Kind::List(items) => items,
            Kind::Scalar(scalar) if is_null(scalar) => &[],
            _ => return Err(self.unexpected(&visitor)),
        };
        visitor.visit_seq(Items { cx: self.cx, items: items.iter() }).map_err(|fault| fault.at(self.node))
    }
    /// A path, resolved against the directory of the file that it stands in.
    fn path<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.kind() {
            Kind::Scalar(scalar) if !is_null(scalar) && !scalar.text.is_empty() => {
                // An alias stands in the file of its target.
                let path = self.cx.document.source(self.node).dir.join(&scalar.text);
                visitor.visit_str(&path.to_string_lossy()).map_err(|fault: Fault| fault.at(self.node))
            }
            _ => self.text(visitor),
        }
    }
}

/// Values of any shape (the expected JSON of a health check) keep the types that YAML gives them. All other
/// visitors that take anything take words by their spelling, so that `1.10` stays `1.10`.
fn keeps_types<V>() -> bool {
    type_name::<V>() == type_name::<serde_json::Value>()
}

impl<'d> de::Deserializer<'d> for De<'_, 'd> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.kind() {
            Kind::List(_) => self.list(visitor),
            Kind::Map(_) | Kind::Alias(_) => self.map(visitor),
            Kind::Scalar(scalar) if is_null(scalar) => {
                self.step()?;
                visitor.visit_unit().map_err(|fault: Fault| fault.at(self.node))
            }
            Kind::Scalar(scalar) if scalar.plain && keeps_types::<V::Value>() => match Plain::of(&scalar.text) {
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Text | Plain::Null => self.text(visitor),
                _ => self.number(visitor),
            },
            Kind::Scalar(_) => self.text(visitor),
        }
    }
    fn deserialize_bool<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.step()?;
        match self.kind() {
            Kind::Scalar(scalar) if scalar.plain || scalar.written.is_some() => match scalar.text.as_str() {
                "true" | "True" | "TRUE" | "on" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" | "off" => visitor.visit_bool(false),
                _ => Err(self.unexpected(&visitor)),
            },
            _ => Err(self.unexpected(&visitor)),
        }
    }
    fn deserialize_option<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }
    fn deserialize_unit<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null() { visitor.visit_unit() } else { Err(self.unexpected(&visitor)) }
    }
    fn deserialize_unit_struct<V: Visitor<'d>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }
    fn deserialize_newtype_struct<V: Visitor<'d>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        match name {
            ConfigPath::MARK => self.path(visitor),
            AccessLogSpec::PATH_MARK => match self.kind() {
                Kind::Scalar(scalar) if AccessLogSpec::WORDS.contains(&scalar.text.as_ref()) => self.text(visitor),
                _ => self.path(visitor),
            },
            Secret::MARK => {
                self.cx.document.mask(self.node);
                self.text(visitor)
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }
    fn deserialize_seq<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.list(visitor)
    }
    fn deserialize_tuple<V: Visitor<'d>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.list(visitor)
    }
    fn deserialize_tuple_struct<V: Visitor<'d>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.list(visitor)
    }
    fn deserialize_map<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.map(visitor)
    }
    fn deserialize_struct<V: Visitor<'d>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.kind() {
            Kind::Map(_) | Kind::Alias(_) => self.map(visitor),
            _ if self.is_null() => self.map(visitor),
            _ => Err(self.unexpected(&visitor).with_keys(keys)),
        }
    }
    fn deserialize_enum<V: Visitor<'d>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.step()?;
        let (tag, options) = match self.kind() {
            Kind::Scalar(scalar) if !is_null(scalar) => (self.node, De { bare: true, ..self }),
            Kind::Map(entries) => {
                let mut left = entries.iter().filter(|(key, value)| {
                    let document = self.cx.document;
                    !document.is_poisoned(*key) && !document.is_poisoned(*value)
                });
                match (left.next(), left.next()) {
                    (Some((key, value)), None) => (*key, De { cx: self.cx, node: *value, bare: false }),
                    (Some(_), Some((second, _))) => {
                        return Err(Fault::one_kind().at(*second));
                    }
                    (None, _) if entries.is_empty() => return Err(self.no_kind(variants)),
                    (None, _) => return Err(Fault::new(What::Silent)),
                }
            }
            _ => return Err(self.no_kind(variants)),
        };
        visitor.visit_enum(Choice { tag, options, name }).map_err(|fault| fault.at(self.node))
    }
    fn deserialize_ignored_any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_i8<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_i16<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_i32<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_i64<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_u8<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_u16<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_u32<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_u64<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_f32<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_f64<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }
    fn deserialize_char<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor)
    }
    fn deserialize_str<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor)
    }
    fn deserialize_string<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor)
    }
    fn deserialize_bytes<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor)
    }
    fn deserialize_byte_buf<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor)
    }
    fn deserialize_identifier<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor)
    }
}

impl De<'_, '_> {
    fn no_kind(&self, variants: &[&str]) -> Fault {
        let known = variants.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ");
        Fault::new(What::Refused(format!("a kind is missing; one of {known}"))).at(self.node)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn ours(text: &str) -> Option<Value> {
        let (mut document, mut found) = (Document::default(), Vec::new());
        let root = document.add("text".into(), Path::new(""), text.into(), &mut found);
        document.set_root(root);
        let value = decode(&document, &mut found);
        assert!(found.is_empty(), "{text}\n{found:?}");
        value
    }

    fn theirs(text: &str) -> Value {
        serde_json::to_value(serde_yaml::from_str::<serde_yaml::Value>(text).unwrap()).unwrap()
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~]{0,12}",
            "(true|false|null|~|on|off|0|-1|1.50|0x1f|0o7|1e3|[.]inf|1_0|2001:db8::1|#|: |- a|&a|[*]a|<<|é|\n ?x\n|\t)",
            // Without the line separators of Unicode, which YAML 1.1 breaks lines at and 1.2 does not.
            "[^\\pC\\p{Zl}\\p{Zp}]{0,8}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e6..1e6f64).prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(text.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever another implementation writes, we read as what it was, and so does that implementation.
        #[test]
        fn a_written_value_is_read_as_it_was(value in any_value()) {
            let text = serde_yaml::to_string(&value).unwrap();
            prop_assert_eq!(theirs(&text), value.clone());
            prop_assert_eq!(ours(&text).unwrap(), value);
        }

        #[test]
        fn json_is_yaml(value in any_value()) {
            prop_assert_eq!(ours(&value.to_string()).unwrap(), value);
        }
    }

    #[test]
    fn good_files_have_the_value_that_another_implementation_gives_them() {
        let mut files = 0;
        for entry in std::fs::read_dir("tests/conf").unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with("good_") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(ours(&text), Some(theirs(&text)), "{}", path.display());
            files += 1;
        }
        assert!(files >= 4);
    }

    #[test]
    fn an_alias_may_be_wrong_in_one_place_and_right_in_another() {
        let (mut document, mut found) = (Document::default(), Vec::new());
        let root = document.add("text".into(), Path::new(""), "[[&a 300, 1], [*a, 2]]".into(), &mut found);
        document.set_root(root);
        let lists: Option<Vec<Vec<u8>>> = decode(&document, &mut found);
        assert_eq!(lists, Some(vec![vec![1], vec![2]]));
        assert_eq!(found.iter().map(|d| d.place.path.as_str()).collect::<Vec<_>>(), ["[0][0]", "[1][0]"]);
        assert_eq!(found[1].place.column, 16);
    }

    #[test]
    fn paths_are_those_of_the_source_and_lead_back_from_what_survived() {
        let (mut document, mut found) = (Document::default(), Vec::new());
        let root = document.add("text".into(), Path::new(""), "{a: [x, 1, y, 2]}".into(), &mut found);
        document.set_root(root);
        let map: Option<std::collections::BTreeMap<String, Vec<u8>>> = decode(&document, &mut found);
        assert_eq!(map.unwrap()["a"], [1, 2]);
        assert_eq!(found.iter().map(|d| d.place.path.as_str()).collect::<Vec<_>>(), ["a[0]", "a[2]"]);
        let second = crate::types::YamlPath(vec![crate::types::Seg::Key("a".into()), crate::types::Seg::Index(1)]);
        assert_eq!(document.path(document.find(&second).unwrap().0).to_string(), "a[3]");
    }
}

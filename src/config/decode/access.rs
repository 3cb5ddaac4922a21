//! The parts of a list, a mapping and a choice, as serde asks for them, trying again where the value is.

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, IntoDeserializer, Visitor},
};

use super::{Cx, De};
use crate::config::{
    document::{Kind, NodeId},
    fault::{Fault, What},
};

/// The items of a list that are not poisoned.
pub(super) struct Items<'c, 'd> {
    pub(super) cx: &'c Cx<'d>,
    pub(super) items: std::slice::Iter<'d, NodeId>,
}

impl<'d> de::SeqAccess<'d> for Items<'_, 'd> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'d>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        for item in self.items.by_ref() {
            if !self.cx.document.is_poisoned(*item) {
                let value = seed.deserialize(De { cx: self.cx, node: *item, bare: false });
                return value.map(Some).map_err(|fault| fault.at(*item));
            }
        }
        Ok(None)
    }

    /// As above, but goes on to the next item when one cannot be decoded.
    fn next_element<T: Deserialize<'d>>(&mut self) -> Result<Option<T>, Fault> {
        for item in self.items.by_ref() {
            if self.cx.exhausted() {
                break;
            }
            if let Some(value) = self.cx.attempt(*item, *item) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a mapping that are not poisoned.
pub(super) struct Entries<'c, 'd> {
    pub(super) cx: &'c Cx<'d>,
    pub(super) map: NodeId,
    pub(super) entries: std::slice::Iter<'d, (NodeId, NodeId)>,
    /// The value whose key was given, and its key; `None` for a key that was supplied.
    pub(super) value: Option<(NodeId, NodeId)>,
    /// Keys that were supplied.
    pub(super) supplied: Vec<&'static str>,
}

impl<'d> Entries<'_, 'd> {
    pub(super) fn next(&mut self) -> Option<(NodeId, NodeId)> {
        let document = self.cx.document;
        self.entries.by_ref().copied().find(|(key, value)| !document.is_poisoned(*key) && !document.is_poisoned(*value))
    }
}

impl<'d> de::MapAccess<'d> for Entries<'_, 'd> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'d>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        if let Some((key, value)) = self.next() {
            self.value = Some((key, value));
            let text = self.cx.document.key_text(key);
            return seed.deserialize(text.into_deserializer()).map(Some).map_err(|fault: Fault| fault.at(key));
        }
        self.value = None;
        match self.supplied.pop() {
            Some(key) => seed.deserialize(key.into_deserializer()).map(Some).map_err(|fault: Fault| fault.at(self.map)),
            None => Ok(None),
        }
    }

    fn next_key<K: Deserialize<'d>>(&mut self) -> Result<Option<K>, Fault> {
        loop {
            match self.next_key_seed(std::marker::PhantomData) {
                // A key that does not exist here is none of its mapping's business.
                Err(fault) if matches!(fault.what, What::UnknownKey { .. } | What::Refused(_)) && !self.cx.exhausted() => {
                    self.cx.report(fault, self.map);
                }
                other => return other,
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'d>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some((_, node)) => seed.deserialize(De { cx: self.cx, node, bare: false }).map_err(|fault| fault.at(node)),
            None => seed.deserialize(Empty),
        }
    }

    fn next_value<V: Deserialize<'d>>(&mut self) -> Result<V, Fault> {
        match self.value.take() {
            // What the key belongs to is asked for again, and will find the key absent.
            Some((key, node)) => self.cx.attempt(node, key).ok_or(Fault { what: What::Again, node: Some(key) }),
            None => V::deserialize(Empty),
        }
    }

    fn next_entry<K: Deserialize<'d>, V: Deserialize<'d>>(&mut self) -> Result<Option<(K, V)>, Fault> {
        while let Some(name) = self.next_key()? {
            let Some((key, node)) = self.value.take() else { continue };
            if self.cx.exhausted() {
                break;
            }
            if let Some(value) = self.cx.attempt(node, key) {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// The value of a required section that is not there.
struct Empty;

impl<'de> de::Deserializer<'de> for Empty {
    type Error = Fault;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(de::value::MapDeserializer::new(std::iter::empty::<(&str, &str)>()))
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(de::value::SeqDeserializer::new(std::iter::empty::<&str>()))
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A kind and its options.
pub(super) struct Choice<'c, 'd> {
    pub(super) tag: NodeId,
    pub(super) options: De<'c, 'd>,
    pub(super) name: &'static str,
}

impl<'c, 'd> de::EnumAccess<'d> for Choice<'c, 'd> {
    type Error = Fault;
    type Variant = De<'c, 'd>;

    fn variant_seed<V: DeserializeSeed<'d>>(self, seed: V) -> Result<(V::Value, De<'c, 'd>), Fault> {
        let text = self.options.cx.document.key_text(self.tag);
        let variant = seed.deserialize(text.into_deserializer()).map_err(|mut fault: Fault| {
            if let What::UnknownKind { of, .. } = &mut fault.what {
                *of = Some(self.name);
            }
            fault.at(self.tag)
        })?;
        Ok((variant, self.options))
    }
}

impl<'d> de::VariantAccess<'d> for De<'_, 'd> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.kind() {
            Kind::Map(entries) if entries.is_empty() => Ok(()),
            _ if self.is_null() => Ok(()),
            _ => Err(Fault::new(What::Refused("this kind has no options".into())).at(self.node)),
        }
    }
    fn newtype_variant_seed<T: DeserializeSeed<'d>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self).map_err(|fault| fault.at(self.node))
    }
    fn tuple_variant<V: Visitor<'d>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.list(visitor)
    }
    fn struct_variant<V: Visitor<'d>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.map(visitor)
    }
}

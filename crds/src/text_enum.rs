//! Enums that are plain strings in a schema, so that a newer program may use values that an older CRD and an older reader do not know.

/// Declares an enum whose variants are written as their names, or as the text that is given. What a reader does not know becomes
/// `Unknown`. The schema is a string.
macro_rules! text_enum {
    ($(#[$meta:meta])* pub enum $Name:ident { $($(#[$variant_meta:meta])* $Variant:ident $(= $text:literal)?,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $Name {
            $($(#[$variant_meta])* $Variant,)+
            /// One that this version does not know.
            Unknown,
        }

        impl $Name {
            /// All that this version knows.
            pub const ALL: &[$Name] = &[$($Name::$Variant),+];

            /// As it is written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $($Name::$Variant => {
                        let texts: &[&str] = &[$($text,)? stringify!($Variant)];
                        texts[0]
                    })+
                    $Name::Unknown => "Unknown",
                }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl From<&str> for $Name {
            fn from(text: &str) -> Self {
                let known = $Name::ALL.iter().copied().find(|known| known.as_str() == text);
                known.unwrap_or($Name::Unknown)
            }
        }

        impl serde::Serialize for $Name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Ok($Name::from(text.as_ref()))
            }
        }

        impl schemars::JsonSchema for $Name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string"})
            }
        }
    };
}

pub(crate) use text_enum;

#[cfg(test)]
mod tests {
    use crate::aijob::Cause;

    #[test]
    fn a_value_is_written_as_its_name_and_an_unknown_one_is_read_as_unknown() {
        for cause in Cause::ALL {
            let json = serde_json::to_value(cause).expect("JSON");
            assert_eq!(json, cause.to_string());
            assert_eq!(serde_json::from_value::<Cause>(json).ok(), Some(*cause));
        }
        let newer = serde_json::json!("MeltedDown");
        let cause: Cause = serde_json::from_value(newer).expect("a cause");
        assert_eq!(cause, Cause::Unknown);
    }
}

//! Closed sets of values that go by a name each.

/// Gives an enum `ALL`, `name`, `by_name` and `Display` from one list of its values and their names.
macro_rules! named {
    ($kind:ident { $($value:ident = $name:literal),+ $(,)? }) => {
        impl $kind {
            pub const ALL: [$kind; [$($name),+].len()] = [$($kind::$value),+];

            pub const fn name(self) -> &'static str {
                match self {
                    $($kind::$value => $name,)+
                }
            }

            fn by_name(name: &str) -> Option<Self> {
                $kind::ALL.into_iter().find(|it| it.name() == name)
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use named;

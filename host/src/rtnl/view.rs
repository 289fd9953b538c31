//! What all typed views of a row have in common.

/// Declares a view: a value that holds a row of one kind, with `of` to read a row and `row` and `into_row` to get it back.
macro_rules! view {
    ($(#[$doc:meta])* $name:ident, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            row: $crate::rtnl::Row,
        }

        impl $name {
            /// Reads a row; `None` when it is of another kind or malformed.
            #[must_use]
            pub fn of(row: &$crate::rtnl::Row) -> Option<Self> {
                let is_valid: fn(&$crate::rtnl::Row) -> bool = $is_valid;
                is_valid(row).then(|| Self { row: row.clone() })
            }

            /// The row as dumped.
            #[must_use]
            pub fn row(&self) -> &$crate::rtnl::Row {
                &self.row
            }

            /// The row as dumped.
            #[must_use]
            pub fn into_row(self) -> $crate::rtnl::Row {
                self.row
            }
        }
    };
}

pub(super) use view;

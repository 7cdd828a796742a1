//! Columns of the Table view.

use crate::table::Cell;

/// A column of the Table view.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// OpenAPI type: `string`, `integer`.
    pub(crate) shape: &'static str,
    /// Shown only by `kubectl get -o wide`.
    pub(crate) wide: bool,
    pub(crate) cell: Cell,
}

pub(super) const NAME: Column = column("Name", Cell::At("/metadata/name"));
pub(super) const AGE: Column = column("Age", Cell::Since("/metadata/creationTimestamp"));
pub(super) const CREATED: Column = column("Created At", Cell::At("/metadata/creationTimestamp"));

/// Of the scale subresource, whatever kind it is of.
pub(crate) const SCALE_COLUMNS: [Column; 4] = [
    NAME,
    number("Desired", Cell::Count("/spec/replicas")),
    number("Available", Cell::Count("/status/replicas")),
    AGE,
];

pub(super) const fn column(name: &'static str, cell: Cell) -> Column {
    Column { name, shape: "string", wide: false, cell }
}

pub(super) const fn number(name: &'static str, cell: Cell) -> Column {
    Column { name, shape: "integer", wide: false, cell }
}

pub(super) const fn wide(name: &'static str, cell: Cell) -> Column {
    Column { name, shape: "string", wide: true, cell }
}

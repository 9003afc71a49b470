//! What runs beside the data path: the drain of the record.

pub mod drain;

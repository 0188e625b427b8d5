//! The op-log: signed, hash-chained, durable records.

//! Random clients against the router and against a plain model of it: whatever a client hears, and what everybody is charged, must
//! be the same.

mod driver;
mod plain;

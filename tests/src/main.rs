//! Integration tests of KVTimeDB, through the interfaces that users have.

mod tidy;

//! The status page

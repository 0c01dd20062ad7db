//! The `metawatch` command: parse, trace, run, exit code; nothing else.

fn main() {}

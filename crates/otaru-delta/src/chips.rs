//! The chips' processors and where they see their memories.

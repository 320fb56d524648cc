//! The language of the stories: reading commands, applying them, writing down what came of them.

pub mod read;
pub mod spec;
pub mod tell;
pub mod world;

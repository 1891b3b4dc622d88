//! Providers over HTTP, against servers that answer well and badly.

mod anthropic;
mod faults;
mod openai;
mod patience;
mod stage;
mod tools;

//! Tests of the public interface, in folders that mirror `src`.

mod calls;
mod discovery;
mod egress;
mod key_ring;
mod queue;
mod support;
mod x_matrix;

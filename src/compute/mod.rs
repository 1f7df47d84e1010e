//! The operations that models are written in, and the machines they run on.

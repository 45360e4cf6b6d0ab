//! Predicts what the addresses inside copied bytes have become.
//!
//! All of it goes by the bytes of the *old* image, and by what was written of the new one already, so that encoder and decoder
//! come to the same; whether a prediction is right shows in what the patch adds to it.
//!
//! [`predictor`] is what is known of the images, [`words`] how they are looked at, [`prediction`] what comes of it. [`place`]
//! asks [`data`], which knows words and exception tables, or [`xtensa`] or [`riscv`], which know the instructions of the
//! processors.

mod data;
mod place;
mod prediction;
mod predictor;
mod riscv;
mod words;
mod xtensa;

pub(crate) use prediction::LONGEST;
pub(crate) use predictor::{Memory, Predictor};
pub(crate) use words::{LOOKAHEAD, Window, Words};

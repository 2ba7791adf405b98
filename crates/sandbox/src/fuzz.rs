//! What fuzzers call: image archives, and what a sandbox left, as functions of bytes that panic where a
//! promise is broken.

pub use crate::image::fuzz::image_archive;
pub use crate::image::fuzz::image_layer;
pub use crate::image::fuzz::with_sums;
pub use crate::left::fuzz::left_names;
pub use crate::left::fuzz::left_tar;

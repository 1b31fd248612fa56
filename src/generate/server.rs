//! In: an image server and what each image is asked with. Out: images, or why there are none. What is sent and what
//! replies mean, for each kind of server, is `server/wire.rs`, which has no input and no output.

pub mod wire;

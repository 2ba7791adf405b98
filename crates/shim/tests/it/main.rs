//! The shim and the native sandbox as they are: real namespaces, real programs. As root only.

mod host;
mod init_alone;
mod init_parsers;
mod native_leftovers;
mod native_limits;
mod native_room;
mod native_start;
mod native_walls;
mod shim_ends;
mod shim_files;
mod shim_forwards;
mod shim_house;
mod shim_session;
mod shim_zygote;

//! `wasi:filesystem`: what is below the opened directories.
//!
//! wasmtime keeps paths below the directory that they start from, at every use and without a gap
//! between check and use (`openat2` with `RESOLVE_BENEATH` on Linux, one component at a time
//! elsewhere). What is added here are the rights that it does not know, and that refusals are told.
//!
//! | a directory from | may be listed, and its files read | may be changed |
//! |---|---|---|
//! | `file_read` | yes | no |
//! | `file_write` | no | yes |
//! | both | yes | yes |
//!
//! What must stay true: a file is never moved or linked to where the guest may do more with it than
//! where it was. So nothing is moved from a directory that may only be written to one that may be
//! read, and where the one holds the other ([`Wasi::nested`]) nothing is moved within it either.
//!
//! Files are read and written on the calling thread: a slow disk is the host's time, and is not
//! interrupted by cancelling.

use vox_contract::Capability;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, Dir, FsPerms, OpenMode, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode as AnyErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    ErrorCode, Filesize, Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::Wasi;
use super::directories::is_process_directory;

type Handle = Resource<Descriptor>;

impl preopens::Host for Wasi {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let mut found = Vec::new();
        if self.directories.is_empty() {
            self.refusals.tell(Capability::FileRead, "");
        }
        for directory in &self.directories {
            for name in &directory.names {
                let mut mode = OpenMode::empty();
                mode.set(OpenMode::READ, directory.read);
                mode.set(OpenMode::WRITE, directory.write);
                let perms = if directory.write {
                    FsPerms::ReadWrite
                } else {
                    FsPerms::ReadOnly
                };
                let handle = directory.handle.try_clone()?;
                let dir = Dir::new(handle, perms, mode, true);
                let handle = self.table.push(Descriptor::Dir(dir))?;
                self.places.insert(handle.rep(), directory.path.clone());
                found.push((handle, name.clone()));
            }
        }
        Ok(found)
    }
}

/// What a guest may do with a directory and all below it. A directory that may not be read is one
/// whose mode lacks reading.
#[derive(Clone, Copy)]
struct Rights {
    read: bool,
    write: bool,
}

impl Wasi {
    fn rights(&self, handle: &Handle) -> FsResult<Rights> {
        Ok(match self.table.get(handle)? {
            Descriptor::Dir(dir) => Rights {
                read: dir.open_mode.contains(OpenMode::READ),
                write: !dir.perms.write_not_permitted(),
            },
            Descriptor::File(file) => Rights {
                read: file.open_mode.contains(OpenMode::READ),
                write: !file.perms.write_not_permitted(),
            },
        })
    }

    /// Says that something is not granted at `path` below a directory, and answers that.
    fn refuse(&self, capability: Capability, handle: &Handle, path: &str) -> FsError {
        let place = self.places.get(&handle.rep());
        let place = place.map(|place| place.join(path));
        let place = place.map_or_else(|| path.to_owned(), |place| place.display().to_string());
        self.refusals.tell(capability, place.trim_end_matches('/'));
        AnyErrorCode::Access.into()
    }

    /// Answers `access` where nothing may be changed.
    fn require_write(&self, handle: &Handle, path: &str) -> FsResult<()> {
        if self.rights(handle)?.write {
            return Ok(());
        }
        Err(self.refuse(Capability::FileWrite, handle, path))
    }

    /// Answers `access` where nothing may be read.
    fn require_read(&self, handle: &Handle, path: &str) -> FsResult<()> {
        if self.rights(handle)?.read {
            return Ok(());
        }
        Err(self.refuse(Capability::FileRead, handle, path))
    }

    /// Answers `access` where a move or a link would let the guest do more with the file.
    fn require_same_reach(
        &self,
        from: &Handle,
        path: &str,
        to: &Handle,
        new: &str,
    ) -> FsResult<()> {
        self.require_write(from, path)?;
        self.require_write(to, new)?;
        if !self.rights(from)?.read && (self.nested || self.rights(to)?.read) {
            return Err(self.refuse(Capability::FileRead, from, path));
        }
        Ok(())
    }

    /// Tells of a path that led out of its directory, which wasmtime answers with `not-permitted`.
    fn kept_below<T>(
        &self,
        capability: Capability,
        handle: &Handle,
        path: &str,
        result: FsResult<T>,
    ) -> FsResult<T> {
        match result {
            Err(error) if matches!(error.downcast_ref(), Some(AnyErrorCode::NotPermitted)) => {
                Err(self.refuse(capability, handle, path))
            }
            result => result,
        }
    }
}

/// A copy of a handle for a call that takes it.
fn again(handle: &Handle) -> Handle {
    Resource::new_borrow(handle.rep())
}

impl Host for Wasi {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        Host::convert_error_code(&mut self.filesystem(), error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Host::filesystem_error_code(&mut self.filesystem(), error)
    }
}

impl HostDescriptor for Wasi {
    fn open_at(
        &mut self,
        fd: Handle,
        follow: PathFlags,
        path: String,
        mut open: OpenFlags,
        mut flags: DescriptorFlags,
    ) -> FsResult<Handle> {
        let rights = self.rights(&fd)?;
        let changes = OpenFlags::CREATE | OpenFlags::TRUNCATE;
        if open.intersects(changes) || flags.contains(DescriptorFlags::WRITE) {
            self.require_write(&fd, &path)?;
        }
        if !rights.read {
            if flags.contains(DescriptorFlags::WRITE) {
                if flags.contains(DescriptorFlags::READ) {
                    return Err(self.refuse(Capability::FileRead, &fd, &path));
                }
            } else if open.intersects(changes)
                || flags.contains(DescriptorFlags::READ) && !open.contains(OpenFlags::DIRECTORY)
            {
                return Err(self.refuse(Capability::FileRead, &fd, &path));
            } else {
                // Only a directory is opened for neither, to reach what is below it.
                open |= OpenFlags::DIRECTORY;
                flags &= !DescriptorFlags::READ;
            }
        }
        let result = HostDescriptor::open_at(
            &mut self.filesystem(),
            again(&fd),
            follow,
            path.clone(),
            open,
            flags,
        );
        let opened = self.kept_below(Capability::FileRead, &fd, &path, result)?;
        let (inside_process, is_directory) = match self.table.get_mut(&opened)? {
            Descriptor::File(file) => (is_process_directory(&file.file), false),
            Descriptor::Dir(dir) => {
                if !rights.read {
                    dir.open_mode = OpenMode::WRITE;
                }
                (is_process_directory(&dir.dir), true)
            }
        };
        if inside_process {
            self.table.delete(opened)?;
            return Err(self.refuse(Capability::FileRead, &fd, &path));
        }
        if is_directory && let Some(place) = self.places.get(&fd.rep()) {
            let place = place.join(&path);
            self.places.insert(opened.rep(), place);
        }
        Ok(opened)
    }

    fn drop(&mut self, fd: Handle) -> wasmtime::Result<()> {
        self.places.remove(&fd.rep());
        HostDescriptor::drop(&mut self.filesystem(), fd)
    }

    fn read_directory(&mut self, fd: Handle) -> FsResult<Resource<DirectoryEntryStream>> {
        self.require_read(&fd, "")?;
        HostDescriptor::read_directory(&mut self.filesystem(), fd)
    }

    fn readlink_at(&mut self, fd: Handle, path: String) -> FsResult<String> {
        self.require_read(&fd, &path)?;
        let result = HostDescriptor::readlink_at(&mut self.filesystem(), again(&fd), path.clone());
        self.kept_below(Capability::FileRead, &fd, &path, result)
    }

    fn stat_at(&mut self, fd: Handle, follow: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let result =
            HostDescriptor::stat_at(&mut self.filesystem(), again(&fd), follow, path.clone());
        self.kept_below(Capability::FileRead, &fd, &path, result)
    }

    fn metadata_hash_at(
        &mut self,
        fd: Handle,
        follow: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let files = &mut self.filesystem();
        let result = HostDescriptor::metadata_hash_at(files, again(&fd), follow, path.clone());
        self.kept_below(Capability::FileRead, &fd, &path, result)
    }

    fn create_directory_at(&mut self, fd: Handle, path: String) -> FsResult<()> {
        self.require_write(&fd, &path)?;
        let files = &mut self.filesystem();
        let result = HostDescriptor::create_directory_at(files, again(&fd), path.clone());
        self.kept_below(Capability::FileWrite, &fd, &path, result)
    }

    fn set_times_at(
        &mut self,
        fd: Handle,
        follow: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.require_write(&fd, &path)?;
        let files = &mut self.filesystem();
        let (at, name) = (again(&fd), path.clone());
        let result = HostDescriptor::set_times_at(files, at, follow, name, accessed, modified);
        self.kept_below(Capability::FileWrite, &fd, &path, result)
    }

    fn link_at(
        &mut self,
        fd: Handle,
        follow: PathFlags,
        path: String,
        to: Handle,
        new: String,
    ) -> FsResult<()> {
        self.require_same_reach(&fd, &path, &to, &new)?;
        let files = &mut self.filesystem();
        let result = HostDescriptor::link_at(files, again(&fd), follow, path.clone(), to, new);
        self.kept_below(Capability::FileWrite, &fd, &path, result)
    }

    fn rename_at(&mut self, fd: Handle, path: String, to: Handle, new: String) -> FsResult<()> {
        self.require_same_reach(&fd, &path, &to, &new)?;
        let files = &mut self.filesystem();
        let result = HostDescriptor::rename_at(files, again(&fd), path.clone(), to, new);
        self.kept_below(Capability::FileWrite, &fd, &path, result)
    }

    fn symlink_at(&mut self, fd: Handle, target: String, path: String) -> FsResult<()> {
        self.require_write(&fd, &path)?;
        let files = &mut self.filesystem();
        let result = HostDescriptor::symlink_at(files, again(&fd), target, path.clone());
        self.kept_below(Capability::FileWrite, &fd, &path, result)
    }

    fn unlink_file_at(&mut self, fd: Handle, path: String) -> FsResult<()> {
        self.require_write(&fd, &path)?;
        let files = &mut self.filesystem();
        let result = HostDescriptor::unlink_file_at(files, again(&fd), path.clone());
        self.kept_below(Capability::FileWrite, &fd, &path, result)
    }

    fn remove_directory_at(&mut self, fd: Handle, path: String) -> FsResult<()> {
        self.require_write(&fd, &path)?;
        let files = &mut self.filesystem();
        let result = HostDescriptor::remove_directory_at(files, again(&fd), path.clone());
        self.kept_below(Capability::FileWrite, &fd, &path, result)
    }

    fn set_times(
        &mut self,
        fd: Handle,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.require_write(&fd, "")?;
        HostDescriptor::set_times(&mut self.filesystem(), fd, accessed, modified)
    }

    fn set_size(&mut self, fd: Handle, size: Filesize) -> FsResult<()> {
        self.require_write(&fd, "")?;
        HostDescriptor::set_size(&mut self.filesystem(), fd, size)
    }

    fn write(&mut self, fd: Handle, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        self.require_write(&fd, "")?;
        HostDescriptor::write(&mut self.filesystem(), fd, bytes, offset)
    }

    fn write_via_stream(
        &mut self,
        fd: Handle,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.require_write(&fd, "")?;
        HostDescriptor::write_via_stream(&mut self.filesystem(), fd, offset)
    }

    fn append_via_stream(&mut self, fd: Handle) -> FsResult<Resource<DynOutputStream>> {
        self.require_write(&fd, "")?;
        HostDescriptor::append_via_stream(&mut self.filesystem(), fd)
    }

    // A file was opened for what its handle says; the system keeps it to that.

    fn read(&mut self, fd: Handle, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        HostDescriptor::read(&mut self.filesystem(), fd, len, offset)
    }

    fn read_via_stream(
        &mut self,
        fd: Handle,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        HostDescriptor::read_via_stream(&mut self.filesystem(), fd, offset)
    }

    fn advise(&mut self, fd: Handle, from: Filesize, len: Filesize, how: Advice) -> FsResult<()> {
        HostDescriptor::advise(&mut self.filesystem(), fd, from, len, how)
    }

    fn sync_data(&mut self, fd: Handle) -> FsResult<()> {
        HostDescriptor::sync_data(&mut self.filesystem(), fd)
    }

    fn sync(&mut self, fd: Handle) -> FsResult<()> {
        HostDescriptor::sync(&mut self.filesystem(), fd)
    }

    fn get_flags(&mut self, fd: Handle) -> FsResult<DescriptorFlags> {
        HostDescriptor::get_flags(&mut self.filesystem(), fd)
    }

    fn get_type(&mut self, fd: Handle) -> FsResult<DescriptorType> {
        HostDescriptor::get_type(&mut self.filesystem(), fd)
    }

    fn stat(&mut self, fd: Handle) -> FsResult<DescriptorStat> {
        HostDescriptor::stat(&mut self.filesystem(), fd)
    }

    fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        HostDescriptor::is_same_object(&mut self.filesystem(), one, other)
    }

    fn metadata_hash(&mut self, fd: Handle) -> FsResult<MetadataHashValue> {
        HostDescriptor::metadata_hash(&mut self.filesystem(), fd)
    }
}

impl HostDirectoryEntryStream for Wasi {
    fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        HostDirectoryEntryStream::read_directory_entry(&mut self.filesystem(), stream)
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.filesystem(), stream)
    }
}

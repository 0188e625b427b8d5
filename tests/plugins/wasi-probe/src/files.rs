//! What is done with files.

use serde::Deserialize;
use serde_json::{Value, json};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};

use crate::Answer;

/// `dir` is the name of an opened directory; `follow` follows a link at the end of the path.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    Directories,
    /// Opens a file and keeps it for `read-held`.
    Hold {
        dir: String,
        path: String,
    },
    ReadHeld,
    Read {
        dir: String,
        path: String,
        #[serde(default)]
        follow: bool,
    },
    /// Reads again and again; answers every different answer.
    ReadOften {
        dir: String,
        path: String,
        times: u32,
    },
    Write {
        dir: String,
        path: String,
        text: String,
        #[serde(default)]
        follow: bool,
    },
    Open {
        dir: String,
        path: String,
        read: bool,
        write: bool,
        create: bool,
        truncate: bool,
        directory: bool,
    },
    /// Opens for reading, then changes through that handle.
    ChangeOpened {
        dir: String,
        path: String,
    },
    List {
        dir: String,
        path: String,
    },
    Size {
        dir: String,
        path: String,
    },
    ReadLink {
        dir: String,
        path: String,
    },
    MakeDirectory {
        dir: String,
        path: String,
    },
    SymbolicLink {
        dir: String,
        target: String,
        path: String,
    },
    Link {
        dir: String,
        path: String,
        to: String,
        new: String,
    },
    Rename {
        dir: String,
        path: String,
        to: String,
        new: String,
    },
    Unlink {
        dir: String,
        path: String,
    },
    SetTimes {
        dir: String,
        path: String,
    },
}

type Outcome<T> = Result<T, ErrorCode>;

pub fn run(deed: Deed, held: &mut Option<Descriptor>) -> Answer {
    carry_out(deed, held).map_err(|error| error.name().to_owned())
}

fn carry_out(deed: Deed, held: &mut Option<Descriptor>) -> Outcome<Value> {
    match deed {
        Deed::Hold { dir, path } => {
            let none = OpenFlags::empty();
            let file = directory(&dir)?;
            let file = file.open_at(PathFlags::empty(), &path, none, DescriptorFlags::READ)?;
            *held = Some(file);
            Ok(json!("held"))
        }
        Deed::ReadHeld => {
            let file = held.as_ref().ok_or(ErrorCode::BadDescriptor)?;
            let (bytes, _) = file.read(1 << 16, 0)?;
            Ok(json!(String::from_utf8_lossy(&bytes)))
        }
        Deed::Directories => {
            let names = get_directories().into_iter().map(|(_, name)| name);
            Ok(json!(names.collect::<Vec<_>>()))
        }
        Deed::Read { dir, path, follow } => read(&directory(&dir)?, &path, follow),
        Deed::ReadOften { dir, path, times } => {
            let directory = directory(&dir)?;
            let mut answers = Vec::new();
            for _ in 0..times {
                let answer = match read(&directory, &path, true) {
                    Ok(text) => text,
                    Err(error) => json!(error.name()),
                };
                if !answers.contains(&answer) {
                    answers.push(answer);
                }
            }
            Ok(json!(answers))
        }
        Deed::Write {
            dir,
            path,
            text,
            follow,
        } => {
            let open = OpenFlags::CREATE | OpenFlags::TRUNCATE;
            let file =
                directory(&dir)?.open_at(links(follow), &path, open, DescriptorFlags::WRITE)?;
            file.write(text.as_bytes(), 0).map(|written| json!(written))
        }
        Deed::Open {
            dir,
            path,
            read,
            write,
            create,
            truncate,
            directory: is_directory,
        } => {
            let mut open = OpenFlags::empty();
            open.set(OpenFlags::CREATE, create);
            open.set(OpenFlags::TRUNCATE, truncate);
            open.set(OpenFlags::DIRECTORY, is_directory);
            let mut flags = DescriptorFlags::empty();
            flags.set(DescriptorFlags::READ, read);
            flags.set(DescriptorFlags::WRITE, write);
            directory(&dir)?.open_at(PathFlags::empty(), &path, open, flags)?;
            Ok(json!("opened"))
        }
        Deed::ChangeOpened { dir, path } => {
            let file = directory(&dir)?.open_at(
                PathFlags::empty(),
                &path,
                OpenFlags::empty(),
                DescriptorFlags::READ,
            )?;
            let name = |outcome: Outcome<()>| outcome.err().map_or("ok", |error| error.name());
            let now = NewTimestamp::Now;
            Ok(json!([
                name(file.set_size(0)),
                name(file.write(b"x", 0).map(drop)),
                name(file.write_via_stream(0).map(drop)),
                name(file.append_via_stream().map(drop)),
                name(file.set_times(now, now)),
            ]))
        }
        Deed::List { dir, path } => {
            let directory = directory(&dir)?.open_at(
                PathFlags::empty(),
                &path,
                OpenFlags::DIRECTORY,
                DescriptorFlags::READ,
            )?;
            let entries = directory.read_directory()?;
            let mut names = Vec::new();
            while let Some(entry) = entries.read_directory_entry()? {
                names.push(entry.name);
            }
            names.sort();
            Ok(json!(names))
        }
        Deed::Size { dir, path } => {
            let stat = directory(&dir)?.stat_at(PathFlags::SYMLINK_FOLLOW, &path)?;
            Ok(json!(stat.size))
        }
        Deed::ReadLink { dir, path } => Ok(json!(directory(&dir)?.readlink_at(&path)?)),
        Deed::MakeDirectory { dir, path } => done(directory(&dir)?.create_directory_at(&path)),
        Deed::SymbolicLink { dir, target, path } => {
            done(directory(&dir)?.symlink_at(&target, &path))
        }
        Deed::Link { dir, path, to, new } => {
            done(directory(&dir)?.link_at(PathFlags::empty(), &path, &directory(&to)?, &new))
        }
        Deed::Rename { dir, path, to, new } => {
            done(directory(&dir)?.rename_at(&path, &directory(&to)?, &new))
        }
        Deed::Unlink { dir, path } => done(directory(&dir)?.unlink_file_at(&path)),
        Deed::SetTimes { dir, path } => {
            let now = NewTimestamp::Now;
            done(directory(&dir)?.set_times_at(PathFlags::empty(), &path, now, now))
        }
    }
}

fn done(outcome: Outcome<()>) -> Outcome<Value> {
    outcome.map(|()| json!("done"))
}

fn directory(name: &str) -> Outcome<Descriptor> {
    get_directories()
        .into_iter()
        .find(|(_, known)| known == name)
        .map(|(directory, _)| directory)
        .ok_or(ErrorCode::BadDescriptor)
}

fn links(follow: bool) -> PathFlags {
    let mut flags = PathFlags::empty();
    flags.set(PathFlags::SYMLINK_FOLLOW, follow);
    flags
}

fn read(directory: &Descriptor, path: &str, follow: bool) -> Outcome<Value> {
    let file = directory.open_at(
        links(follow),
        path,
        OpenFlags::empty(),
        DescriptorFlags::READ,
    )?;
    let (bytes, _) = file.read(1 << 16, 0)?;
    Ok(json!(String::from_utf8_lossy(&bytes)))
}

use super::*;
use std::os::fd::AsRawFd;

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("a pair of sockets")
}

fn thaw() -> Request {
    Request::Thaw { cluster: ClusterId::from_uuid(uuid::Uuid::nil()) }
}

#[test]
fn a_request_comes_through_and_the_end_is_no_error() {
    let (a, b) = pair();
    send(&a, &thaw(), None).expect("sent");
    let (got, fd) = receive::<Request>(&b).expect("understood").expect("there");
    assert_eq!((got, fd.is_none()), (thaw(), true));
    drop(a);
    assert!(receive::<Request>(&b).expect("an end").is_none());
}

#[test]
fn a_descriptor_comes_with_its_reply_and_is_closed_on_exec() {
    let (a, b) = pair();
    let (read, write) = rustix::pipe::pipe().expect("a pipe");
    let reply = Reply::Ok(Answer::FuseFd { takeover: true });
    send(&a, &reply, Some(write.as_fd())).expect("sent");
    drop(write);
    let (got, fd) = receive::<Reply>(&b).expect("understood").expect("there");
    assert_eq!(got, reply);
    let fd = fd.expect("a descriptor");
    assert_ne!(fd.as_raw_fd(), read.as_raw_fd());
    let flags = rustix::io::fcntl_getfd(&fd).expect("open");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    rustix::io::write(&fd, b"x").expect("the pipe's writing end");
    let mut byte = [0];
    rustix::io::read(&read, &mut byte).expect("read");
    assert_eq!(&byte, b"x");
}

#[test]
fn another_version_is_told_before_anything_else_is_read() {
    let (mut a, b) = pair();
    a.write_all(&[9]).expect("sent");
    assert!(matches!(receive::<Request>(&b), Err(FrameError::Version(9))));
}

#[test]
fn an_oversize_body_is_refused_by_its_length_alone() {
    let (mut a, b) = pair();
    let len = u32::try_from(MAX_BODY + 1).expect("fits").to_le_bytes();
    a.write_all(&[VERSION, len[0], len[1], len[2], len[3]]).expect("sent");
    assert!(matches!(receive::<Request>(&b), Err(FrameError::TooLong(_))));
    let long = "x".repeat(MAX_BODY);
    assert!(matches!(send(&a, &long, None), Err(FrameError::TooLong(_))));
}

#[test]
fn unknown_operations_and_fields_are_refused() {
    for body in [
        "",
        "[]",
        r#"{"op":"format-everything"}"#,
        r#"{"op":"inventory","force":true}"#,
        r#"{"op":"thaw","cluster":"cl-1"}"#,
    ] {
        let (mut a, b) = pair();
        let len = u32::try_from(body.len()).expect("short").to_le_bytes();
        let frame = [&[VERSION][..], &len, body.as_bytes()].concat();
        a.write_all(&frame).expect("sent");
        assert!(matches!(receive::<Request>(&b), Err(FrameError::Body(_))), "{body}");
    }
}

#[test]
fn a_frame_that_breaks_off_is_an_error_not_an_end() {
    let (mut a, b) = pair();
    a.write_all(&[VERSION, 4, 0, 0, 0, b'{']).expect("sent");
    drop(a);
    assert!(matches!(receive::<Request>(&b), Err(FrameError::Io(_))));
}

#[test]
fn what_a_process_printed_is_not_shown_by_debug() {
    let report =
        ExitReport { status: Ended::Exit(0), stdout: "hunter2".into(), stderr: String::new() };
    assert!(!format!("{report:?}").contains("hunter2"));
}

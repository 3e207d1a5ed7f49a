use super::*;

#[test]
fn users_are_found_with_their_groups() {
    let nobody = User::named("nobody").expect("asked").expect("every Debian has him");
    assert_ne!(nobody.uid, 0);
    assert!(nobody.groups.contains(&nobody.gid));
    assert_eq!(User::named("no-such-user-here").expect("asked"), None);
    assert_eq!(User::named("a\0b").expect("asked"), None);
}

#[test]
fn a_program_is_searched_in_the_given_path_alone() {
    let sh = program("sh", "/nowhere::/bin").expect("found");
    assert_eq!(sh.to_str(), Ok("/bin/sh"));
    assert!(program("sh", "/nowhere").is_err());
    assert_eq!(program("./own", "/bin").expect("a path").to_str(), Ok("./own"));
    assert!(program("a\0/b", "/bin").is_err());
}

#[test]
fn stop_signals_have_names_with_and_without_sig() {
    assert_eq!(signal_named("SIGINT"), Some(Signal::INT));
    assert_eq!(signal_named("QUIT"), Some(Signal::QUIT));
    assert_eq!(signal_named("SIGSTOP"), None);
}

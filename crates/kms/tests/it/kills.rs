//! kill -9 of the server between and within rotations: what was answered stands, what opened opens.

use crate::rig::{OWNER, REGION, Rig, user};
use crate::trail::lookup_in;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const FOLDER: &str = "KEYSTEAD_TEST_KMS_FOLDER";
const THERE: &str = "eu-west-1";

/// Not a test of its own: the server that the test beside it starts and kills.
#[tokio::test(flavor = "multi_thread")]
async fn serves_in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let rig = Rig::at(&folder, &[REGION, THERE]).await;
    let written = folder.join("address.new");
    std::fs::write(&written, rig.at.to_string()).expect("written");
    std::fs::rename(written, folder.join("address")).expect("named");
    std::future::pending::<()>().await;
}

/// The other process, killed and waited for, also when a test ends early.
struct Server(Child);

impl Server {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(folder: &Path) -> (Server, Rig) {
    let address = folder.join("address");
    let _ = std::fs::remove_file(&address);
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "kills::serves_in_a_process_of_its_own"]).env(FOLDER, folder);
    let server = Server(command.stdout(Stdio::null()).spawn().expect("started"));
    for _ in 0..2000 {
        if let Ok(text) = std::fs::read_to_string(&address) {
            return (server, Rig::of_another(text.parse().expect("an address")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not serve");
}

async fn rotations(rig: &Rig, region: &str, id: &str) -> Vec<Value> {
    let listed = rig.good_in(region, "ListKeyRotations", json!({"KeyId": id})).await;
    listed["Rotations"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_rotations_or_within_one_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged = 0;
    let mut sealed: Vec<Value> = Vec::new();
    let (mut server, mut rig) = start(folder.path());
    let id = rig.make_family(THERE).await;
    for round in 0..12_u64 {
        let input = json!({"KeyId": id, "NumberOfBytes": 32});
        sealed.push(rig.good_in([REGION, THERE][sealed.len() % 2], "GenerateDataKey", input).await);
        let key = json!({"KeyId": id});
        rig.good_in(REGION, "RotateKeyOnDemand", key.clone()).await;
        acknowledged += 1;
        // One more that may or may not be done when the server dies.
        if round % 3 != 0 {
            rig.send_and_hang_up(&user(OWNER), "RotateKeyOnDemand", &key).await;
            tokio::time::sleep(Duration::from_micros(700 * round)).await;
        }
        server.kill();
        (server, rig) = start(folder.path());
        let here = rotations(&rig, REGION, &id).await;
        assert!((acknowledged..=acknowledged + 1).contains(&here.len()), "round {round}");
        acknowledged = here.len();
        assert_eq!(rotations(&rig, THERE, &id).await, here, "one change for both");
        for (number, old) in sealed.iter().enumerate() {
            let region = [THERE, REGION][number % 2];
            let open = json!({"CiphertextBlob": old["CiphertextBlob"]});
            let opened = rig.good_in(region, "Decrypt", open).await;
            assert_eq!(opened["Plaintext"], old["Plaintext"], "{number} in round {round}");
        }
        // What was done is on record, once in each Region.
        for region in [REGION, THERE] {
            let events = lookup_in(&rig, region, OWNER, "RotateKey").await;
            assert_eq!(events.len(), here.len(), "round {round} in {region}");
        }
    }
}

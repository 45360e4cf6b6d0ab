//! Jobs that make release files, with patches from what the fleet runs.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_makes_a_file_that_devices_take_with_patches_from_what_they_run() {
    let server = Server::new(Some(key()));
    let (old, new) = (image("lamp", "1.0.0", 1), image("lamp", "1.1.0", 2));
    server.upload(&old).await;
    assert_eq!(server.work(1).await.state, JobState::Done);
    server.device("a", &old).await;
    server.device("b", &old).await;
    server.device("c", b"unknown here").await;
    let mut events = server.app.events.listen();
    server.upload(&new).await;
    let job = server.work(2).await;
    assert_eq!(job.state, JobState::Done, "{job:?}");
    let release = server.release(2).await;
    assert!(release.built && release.signed_by == Some(key().public().id().to_string()));
    assert_eq!((release.sequence, server.release(1).await.sequence), (Some(1001), Some(1000)));
    assert_eq!((release.devices, server.release(1).await.devices), (0, 2));
    let file = server.bytes(release.file).await;
    let verified = verify(&file, &[key().public()]).unwrap();
    assert_eq!(verified.file.manifest.image, Digest::of(&new));
    assert_eq!(try_patches(&verified.file, std::slice::from_ref(&old)).unwrap().untried, 0);
    let [delta] = &release.deltas[..] else { panic!("{release:?}") };
    assert_eq!((delta.base, delta.version.as_deref()), (Digest::of(&old), Some("1.0.0")));
    assert!(delta.size < release.compressed_size.unwrap());
    // The last is told after the job has ended.
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state == "running") {
        if let Event::Job { release: 2, state, .. } = events.recv().await.unwrap() {
            states.push(state);
        }
    }
    assert_eq!(states.first().map(String::as_str), Some("running"));
    assert_eq!(states.last().map(String::as_str), Some("done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_patches_are_made_when_the_fleet_runs_other_images() {
    let server = Server::new(Some(key()));
    let images: Vec<_> = (1..=3).map(|n| image("lamp", &format!("1.{n}.0"), n)).collect();
    for (image, id) in images.iter().zip(1..) {
        server.upload(image).await;
        server.work(id).await;
    }
    let first = server.release(3).await;
    assert_eq!(first.deltas, []);
    let ask = || server.app.db.write(|tx| jobs::ask_for_patches(tx, Time(2_000)));
    ask().await.unwrap();
    assert_eq!(server.release(3).await.job, first.job, "nothing is missing");
    server.device("a", &images[0]).await;
    ask().await.unwrap();
    assert_eq!(
        server.release(2).await.job.unwrap().state,
        JobState::Done,
        "not what is given to devices now"
    );
    server.work(3).await;
    let second = server.release(3).await;
    assert_eq!(second.deltas.len(), 1);
    assert_eq!(second.sequence, first.sequence, "it is the same release");
    assert_ne!(second.file, first.file);
    server.bytes(first.file).await;
    ask().await.unwrap();
    assert_eq!(server.release(3).await.job, second.job, "nothing is missing any longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_no_patch_can_start_from_is_tried_once() {
    let server = Server::new(Some(key()));
    // Its project has another name than the product it is released as.
    let odd = image("lantern", "0.9.0", 1);
    server.upload(&release_file(&odd, 1, Some("lamp"), &key())).await;
    server.device("a", &odd).await;
    server.upload(&image("lamp", "1.0.0", 2)).await;
    assert_eq!(server.work(2).await.state, JobState::Done);
    let release = server.release(2).await;
    assert_eq!((release.deltas.len(), release.sequence), (0, Some(1000)));
    server.app.db.write(|tx| jobs::ask_for_patches(tx, Time(2_000))).await.unwrap();
    assert_eq!(server.release(2).await.job, release.job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_killed_is_done_after_a_restart() {
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    // What a process that is killed leaves: the job has begun, the release has its number, and nothing else is there.
    server.app.db.write(|tx| jobs::take(tx, Time(0))).await.unwrap().unwrap();
    let Server { folder, app } = server;
    let job = app.db.read(|tx| super::job::Job::latest(tx, 1)).await.unwrap().unwrap();
    assert_eq!((job.state, job.ended_at), (JobState::Running, None));
    drop(app);
    let app = open(folder.path(), Keys::new(Some(key()), Vec::new()));
    let server = Server { folder, app };
    assert_eq!(server.work(1).await.state, JobState::Done);
    let release = server.release(1).await;
    verify(&server.bytes(release.file).await, &[key().public()]).unwrap();
    assert_eq!(release.sequence, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_carries_on_with_is_taken_up_while_the_server_runs() {
    let server = Server::new(Some(key()));
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(jobs::run(server.app.clone(), stop));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    let done = async |release| {
        while server.release(release).await.job.is_none_or(|job| job.state != JobState::Done) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    done(1).await;
    // What is left where a job was taken by a COMMIT that got no answer: it is under way, and nobody has it.
    let left = |tx: &Connection| {
        let job = super::job::Job::ask(tx, 1, JobKind::Build, Time(0))?;
        tx.execute("UPDATE jobs SET state = 'running' WHERE id = ?", [job.id]).map(|_| job.id)
    };
    let left = server.app.db.write(left).await.unwrap();
    server.app.wake.jobs.notify_one();
    done(1).await;
    assert_eq!(server.release(1).await.job.unwrap().id, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_signed_elsewhere_stays_unless_an_admin_says_so() {
    let server = Server::new(Some(key()));
    let one = image("lamp", "1.0.0", 1);
    let outside = release_file(&one, 8, None, &key());
    server.upload(&one).await;
    // It comes while the job waits.
    server.upload(&outside).await;
    let job = server.work(1).await;
    assert!(job.detail.contains("stays"), "{job:?}");
    assert_eq!(server.release(1).await.file, Some(Digest::of(&outside)));
    assert_eq!(server.build(1, Role::Operator, false).await.0, 409);
    assert_eq!(server.build(1, Role::Operator, true).await.0, 403);
    assert_eq!(server.build(1, Role::Admin, true).await.0, 202);
    assert_eq!(server.work(1).await.state, JobState::Done);
    let release = server.release(1).await;
    assert!(release.built && release.sequence == Some(8), "{release:?}");
    // And a server's own file makes way for one that was signed elsewhere.
    let newer = release_file(&one, 9, None, &key());
    assert_eq!(server.upload(&newer).await.0, 200);
    assert_eq!(server.release(1).await.file, Some(Digest::of(&newer)));
}

#[tokio::test]
async fn what_changes_after_it_was_looked_at_is_looked_at_again() {
    let server = Server::new(Some(key()));
    let (one, two) = (image("lamp", "1.0.0", 1), image("lamp", "1.1.0", 2));
    server.upload(&release_file(&one, 5, None, &key())).await;
    let image = Digest::of(&one);
    let prepared = async || {
        let outdated = vec![again::Outdated { release: 1, had: 2_000 }];
        let found = move |tx: &Connection| again::OutdatedReleases::new(tx, [image].into(), outdated);
        let found = server.app.db.read(found).await.unwrap();
        again::prepare(&server.app, found, again::When::Now).await.unwrap()
    };
    let apply = async |prepared: again::Prepared| {
        server
            .app
            .db
            .write(move |tx| prepared.apply(tx, Time(1_000)))
            .await
            .map_err(|problem| problem.into_details().detail)
    };
    // A release with the sequence comes, a device has had a higher one, or the file was replaced meanwhile.
    let before = prepared().await;
    server.upload(&release_file(&two, 9_000, None, &key())).await;
    assert!(apply(before).await.unwrap_err().contains("changed meanwhile"));
    let before = prepared().await;
    server.device("hall", &two).await;
    let had = |tx: &Connection| tx.execute("UPDATE devices SET had = 9000, product = 'lamp'", ());
    server.app.db.write(had).await.unwrap();
    assert!(apply(before).await.unwrap_err().contains("changed meanwhile"));
    let before = prepared().await;
    server.upload(&release_file(&one, 6, None, &key())).await;
    assert!(apply(before).await.unwrap_err().contains("changed meanwhile"));
    assert_eq!(server.release(1).await.sequence, Some(6));
    apply(prepared().await).await.unwrap();
    assert_eq!(server.release(1).await.sequence, Some(9_001));
}

#[tokio::test]
async fn nothing_is_built_without_a_key_or_twice() {
    let server = Server::new(None);
    server.upload(&image("lamp", "1.0.0", 1)).await;
    assert_eq!(server.build(1, Role::Operator, false).await.0, 409);
    assert_eq!(server.release(1).await.job, None);
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    let asked = server.release(1).await.job.unwrap();
    assert_eq!(server.build(1, Role::Operator, false).await, (202, serde_json::to_value(&asked).unwrap()));
    let (_, replacing) = server.build(1, Role::Admin, true).await;
    assert_eq!((&replacing["id"], &replacing["kind"]), (&asked.id.into(), &"replace".into()));
    assert_eq!(server.build(2, Role::Operator, false).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_says_why() {
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    let raw = server.release(1).await.raw.unwrap();
    server.app.artifacts.remove(raw).await.unwrap();
    let job = server.work(1).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.detail.contains(&raw.to_string()), "{job:?}");
}

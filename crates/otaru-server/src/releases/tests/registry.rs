//! Releases that are there: yanked, described, listed, and forgotten.

use super::*;

#[tokio::test]
async fn a_yanked_release_is_offered_to_nobody() {
    let (server, one) = (Server::new(None), image("lamp", "1.0.0", 1));
    server.upload(&one).await;
    let post = async |path: &str| server.ask(Role::Operator, "POST", path, "").await;
    let (_, yanked) = post("/releases/1/yank").await;
    assert_eq!(yanked["yanked_at"], "1970-01-01T00:00:01.000Z");
    assert_eq!(post("/releases/1/yank").await, (200, yanked));
    assert_eq!(server.file_for(&one).await, None);
    server.upload(&one).await;
    assert_eq!(server.file_for(&one).await, None, "the same again does not give it back");
    // Its file is still there for whoever has the link.
    let file = rows::offered_file(&server.release(1).await).unwrap().0;
    assert_eq!(server.bytes(Some(file)).await, one);
    let (_, given) = post("/releases/1/unyank").await;
    assert_eq!(given["yanked_at"], Value::Null);
    assert!(server.file_for(&one).await.is_some());
    assert_eq!(post("/releases/2/yank").await.0, 404);
    assert_eq!(post("/releases/x/yank").await.0, 404);
    let done = server.audited(1).await;
    assert_eq!(done, ["upload", "yank", "yank", "upload", "unyank"].map(|what| format!("release.{what}")));
}

#[tokio::test]
async fn notes_can_be_changed() {
    let server = Server::new(None);
    server.upload_with(&image("lamp", "1.0.0", 1), "notes=first%20try").await;
    assert_eq!(server.release(1).await.notes, "first try");
    let patch = async |path, body: String| server.ask(Role::Operator, "PATCH", path, body).await;
    let (status, release) = patch("/releases/1", r#"{"notes": "better"}"#.into()).await;
    assert_eq!((status, &release["notes"]), (200, &"better".into()));
    assert_eq!(patch("/releases/2", r#"{"notes": ""}"#.into()).await.0, 404);
    assert_eq!(patch("/releases/1", r#"{"notes": "", "version": "2"}"#.into()).await.0, 422);
    assert_eq!(patch("/releases/1", format!(r#"{{"notes": "{}"}}"#, "x".repeat(20_000))).await.0, 422);
    assert_eq!(server.release(1).await.notes, "better");
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let server = Server::new(None);
    for n in 1..=5 {
        server.upload(&image("lamp", &format!("1.{n}.0"), n)).await;
    }
    server.upload(&image("clock", "1.1.0", 9)).await;
    let list = async |query: &str| {
        let (status, page) = server.ask(Role::Viewer, "GET", &format!("/releases?{query}"), "").await;
        assert_eq!(status, 200, "{query}: {page}");
        let ids: Vec<i64> =
            page["items"].as_array().unwrap().iter().map(|r| r["id"].as_i64().unwrap()).collect();
        (ids, page["next"].as_str().map(str::to_owned), page["total"].as_u64().unwrap())
    };
    assert_eq!(list("").await, (vec![6, 5, 4, 3, 2, 1], None, 6));
    let (ids, next, total) = list("product=lamp&limit=2").await;
    assert_eq!((ids, total), (vec![5, 4], 5));
    let (ids, next, _) = list(&format!("product=lamp&limit=2&cursor={}", next.unwrap())).await;
    assert_eq!(ids, [3, 2]);
    let last = list(&format!("product=lamp&limit=2&cursor={}", next.unwrap())).await;
    assert_eq!(last, (vec![1], None, 5));
    assert_eq!(list("version=1.1.0&chip=esp32c3").await.0, [6, 1]);
    server.ask(Role::Operator, "POST", "/releases/3/yank", "").await;
    assert_eq!(list("yanked=true").await.0, [3]);
    assert_eq!(list("yanked=false").await.2, 5);
    for bad in ["limit=0", "limit=1001", "cursor=x';--", "yanked=perhaps"] {
        assert_eq!(server.ask(Role::Viewer, "GET", &format!("/releases?{bad}"), "").await.0, 422, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nothing_refers_to_go_after_a_while() {
    const WEEK: u64 = 7 * 24 * 3_600 * 1_000;
    let (server, one) = (Server::new(None), image("lamp", "1.0.0", 1));
    let (first, second) = (release_file(&one, 5, None, &key()), release_file(&one, 6, None, &key()));
    server.upload(&first).await;
    server.upload(&second).await;
    // What a process leaves that is killed before it could write to the database.
    server.app.artifacts.put(Bytes::from_static(b"never noted")).await.unwrap();
    assert_eq!(server.files(), 4);
    let prune_at = async |millis| {
        let app = open(server.folder.path(), Keys::default());
        let app = App { clock: Clock::new(move || Time(millis)), ..Shared::into_inner(app).unwrap() };
        prune::prune(&app).await.unwrap();
    };
    prune_at(1_000 + WEEK).await;
    assert_eq!(server.files(), 3, "the replaced file is kept for a week");
    prune_at(1_001 + WEEK).await;
    assert_eq!(server.files(), 2, "the image and its release file");
    let release = server.release(1).await;
    assert_eq!(server.bytes(release.file).await, second);
    assert_eq!(server.bytes(release.raw).await, one);
}

#[tokio::test]
async fn names_in_urls_are_plain() {
    let server = Server::new(None);
    let odd = image("../é lamp?#", "1.0.0+b/7", 1);
    server.upload(&odd).await;
    let (_, name) = server.file_for(&odd).await.unwrap();
    assert_eq!(name, ".._____lamp__-1.0.0_b_7.bin".replacen("_____", "___", 1));
    let bearer = format!("Bearer {}", server.token(Role::Viewer).await);
    let request = Request::get("/api/v1/releases/1/file").header("authorization", bearer);
    let answer = server.send(request, Body::empty()).await;
    let path = format!("/files/{}/{name}", Digest::of(&odd));
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (307, &*path));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_devices_are_called_as_their_release_in_steps_and_to_the_end() {
    let server = Server::new(None);
    let one = image("lamp", "1.0.0", 1);
    let (count, digest) = (renaming::STEP * 2 + 50, Digest::of(&one));
    let fill = move |tx: &Connection| {
        let sql = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?2)
                   INSERT INTO devices (id, first_seen, image, version, retired_at)
                   SELECT 'd' || n, 0, ?1, 'unnamed', CASE WHEN n > ?2 - 10 THEN 1 END FROM c";
        tx.execute(sql, params![digest.0, count])
    };
    server.app.db.write(fill).await.unwrap();
    let called = async |version: &'static str| {
        let sql = "SELECT count(*) FROM devices WHERE version = ?";
        let count = server.app.db.read(move |tx| tx.query_row(sql, [version], |row| row.get::<u32>(0)));
        count.await.unwrap()
    };
    server.upload(&one).await;
    assert_eq!((called("1.0.0").await, called("unnamed").await), (count, 0), "the answer comes when all are");
    let left = async || {
        let marks = "SELECT count(*) FROM meta WHERE key LIKE 'renaming/%'";
        server.app.db.read(move |tx| tx.query_row(marks, (), |row| row.get::<u32>(0))).await.unwrap()
    };
    assert_eq!(left().await, 0);
    // A server that is killed after the first step.
    let rename = move |tx: &Connection| {
        tx.execute("UPDATE releases SET version = '1.0.1'", ())?;
        renaming::begin(tx, 1, &digest.0, "1.0.1")
    };
    assert!(server.app.db.write(rename).await.unwrap());
    assert!(renaming::step(&server.app, 1).await.unwrap());
    assert_eq!((called("1.0.1").await, left().await), (renaming::STEP, 1), "others write in between");
    renaming::go_on(&server.app).await.unwrap();
    assert_eq!((called("1.0.1").await, left().await), (count, 0));
}

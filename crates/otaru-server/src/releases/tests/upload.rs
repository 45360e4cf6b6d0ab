//! Uploads: what becomes a release, and what leaves nothing.

use super::*;

#[tokio::test]
async fn an_image_becomes_a_release_and_stays_one() {
    let (server, one) = (Server::new(None), image("lamp", "1.0.0", 1));
    let (status, release) = server.upload(&one).await;
    assert_eq!(status, 201);
    let told = |name: &str| release[name].as_str().unwrap().to_owned();
    assert_eq!(told("product"), "lamp");
    assert_eq!(
        (told("version"), told("chip"), told("created_by")),
        ("1.0.0".into(), "esp32c3".into(), "ada".into())
    );
    assert_eq!(told("image"), Digest::of(&one).to_string());
    let (status, again) = server.upload(&one).await;
    assert_eq!((status, again, server.files()), (200, release, 1));
    let (digest, name) = server.file_for(&one).await.unwrap();
    assert_eq!((digest, name.as_str()), (Digest::of(&one), "lamp-1.0.0.bin"));
    assert_eq!(server.file_for(b"another").await, None);
    assert_eq!(server.bytes(Some(digest)).await, one);
}

#[tokio::test]
async fn what_fills_a_file_up_is_cut_and_a_signature_block_stays() {
    let server = Server::new(None);
    let good = image("lamp", "1.0.0", 1);
    let padded = [&good[..], &vec![0xFF; 500_000]].concat();
    let raw = |id: i64| {
        let sql = "SELECT a.size FROM releases r JOIN artifacts a ON a.digest = r.raw WHERE r.id = ?";
        server.app.db.read(move |tx| tx.query_row(sql, [id], |row| row.get::<u64>(0)))
    };
    let (status, release) = server.upload(&padded).await;
    let id = release["id"].as_i64().unwrap();
    assert_eq!(status, 201);
    assert!(release["needs"]["min_revision"].is_u64(), "{release}");
    assert!(
        release["remarks"][0].as_str().unwrap().starts_with("500000 bytes behind the image"),
        "{release}"
    );
    assert_eq!(raw(id).await.unwrap(), good.len() as u64);

    // What was kept whole by mistake is repaired by the same image.
    let (digest, size) = (Digest::of(&padded), padded.len() as u64);
    let write = move |tx: &Connection| {
        tx.execute(
            "INSERT INTO artifacts (digest, size, used_at) VALUES (?, ?, 0)",
            params![digest.0, size],
        )?;
        tx.execute("UPDATE releases SET raw = ? WHERE id = ?", params![digest.0, id])?;
        Ok::<_, DbError>(())
    };
    server.app.db.write(write).await.unwrap();
    let (status, release) = server.upload(&good).await;
    assert_eq!((status, release["remarks"].as_array().unwrap().len()), (200, 0), "{release}");
    assert_eq!(raw(id).await.unwrap(), good.len() as u64);

    // A signature block is part of what secure boot wants, whatever came first or comes later.
    let mut signed = good.clone();
    signed.resize(good.len().next_multiple_of(4096), 0xFF);
    signed.extend([&[0xE7, 2, 0, 0][..], &[0; 4092]].concat());
    let len = signed.len() as u64;
    let (_, release) = server.upload(&[&signed[..], &[0xFF; 100]].concat()).await;
    assert_eq!(release["remarks"].as_array().unwrap().len(), 2, "{release}");
    assert_eq!(raw(id).await.unwrap(), len);
    server.upload(&good).await;
    assert_eq!(raw(id).await.unwrap(), len);

    // It is told that an upload does not take back that it was taken back.
    server.ask(Role::Operator, "POST", &format!("/releases/{id}/yank"), "{}").await;
    let (_, release) = server.upload(&good).await;
    assert!(release["remarks"][0].as_str().unwrap().contains("un-yank"), "{release}");
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let (server, good) = (Server::new(None), image("lamp", "1.0.0", 1));
    let large = vec![0xE9; (1 << 20) + 1];
    let wrong = format!("sha256={}", Digest::ZERO);
    for (bytes, query, status, words) in [
        (&good[..good.len() - 50], "", 422, "lamp.bin: it is no good ESP image: the image ends early"),
        (b"\x7fELF", "", 422, "save-image"),
        (&large, "", 413, "larger"),
        (&good, &*wrong, 422, "send it again"),
        (&good, "sha256=1234", 400, "64 hexadecimal digits"),
        (&good, "colour=red", 422, "colour"),
    ] {
        let (told, problem) = server.upload_with(bytes, &format!("filename=lamp.bin&{query}")).await;
        assert_eq!((told, server.files()), (status, 0), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    let zipped = Request::post("/api/v1/releases").header("content-encoding", "gzip");
    let bearer = format!("Bearer {}", server.token(Role::Operator).await);
    let zipped = server.send(zipped.header("authorization", bearer), Body::from(good.clone())).await;
    assert_eq!((zipped.status().as_u16(), server.files()), (415, 0));
    let nobody = server.send(Request::post("/api/v1/releases"), Body::from(good.clone())).await;
    assert_eq!((nobody.status().as_u16(), server.files()), (401, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing() {
    let server = Server::new(None);
    let listener = crate::http::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = server.app.stop.clone();
    let (router, rules) = (crate::api::router(server.app.clone()), crate::http::Rules::default());
    let serving = tokio::spawn(crate::http::serve(listener, router, rules, stop.clone()));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v1/releases HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: 50000\r\n\r\n",
        server.token(Role::Operator).await
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&image("lamp", "1.0.0", 1)[..20_000]).await.unwrap();
    until(|| server.files() == 1).await;
    drop(client);
    until(|| server.files() == 0).await;
    stop.cancel();
    serving.await.unwrap();
}

/// Waits until something is so; for ever, if it never is.
async fn until(is: impl Fn() -> bool) {
    while !is() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_route_asks_for_a_token_that_may() {
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    for (method, path, needed) in [
        ("GET", "/releases", Role::Viewer),
        ("POST", "/releases", Role::Operator),
        ("GET", "/releases/1", Role::Viewer),
        ("PATCH", "/releases/1", Role::Operator),
        ("POST", "/releases/1/yank", Role::Operator),
        ("POST", "/releases/1/unyank", Role::Operator),
        ("POST", "/releases/1/build", Role::Operator),
        ("POST", "/releases/1/build?replace=true", Role::Admin),
        ("GET", "/releases/1/file", Role::Viewer),
    ] {
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let request = request.header("content-type", "application/json");
        let answer = server.send(request, Body::from(r#"{"notes": ""}"#)).await;
        assert_eq!(answer.status().as_u16(), 401, "{method} {path}");
        for weak in [Role::Viewer, Role::Operator].into_iter().filter(|role| *role < needed) {
            let (status, problem) = server.ask(weak, method, path, r#"{"notes": ""}"#).await;
            assert_eq!(status, 403, "{method} {path}: {problem}");
        }
    }
    assert_eq!(server.audited(1).await, ["release.upload"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_left() {
    let server = Server::new(None);
    let small = server.folder.path().join("artifacts");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=32k", "tmpfs"])
        .arg(&small)
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED: an upload to a full disk: only root may mount a small one");
        return;
    }
    let _unmount = Unmount(small.clone());
    std::fs::create_dir(small.join("incoming")).unwrap();
    let good = image("lamp", "1.0.0", 1);
    assert!(good.len() > 32 << 10);
    let (status, problem) = server.upload(&good).await;
    assert_eq!((status, &problem["type"]), (507, &Value::from("urn:otaru:problem:disk-full")));
    assert_eq!(server.files(), 0);
    assert_eq!(server.ask(Role::Viewer, "GET", "/releases", "").await.1["total"], 0);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn both_kinds_of_file_complete_each_other() {
    let (one, theirs) = (image("lamp", "1.0.0", 1), SecretKey::from_seed(&[9; 32]));
    let file = release_file(&one, 5, None, &theirs);
    for order in [[&one, &file], [&file, &one]] {
        let server = Server::new(None);
        assert_eq!(server.upload(order[0]).await.0, 201);
        assert_eq!(server.upload(order[1]).await.0, 200);
        let release = server.release(1).await;
        assert_eq!((release.raw, release.file), (Some(Digest::of(&one)), Some(Digest::of(&file))));
        assert_eq!((release.sequence, release.built), (Some(5), false));
        assert_eq!(release.signed_by, Some(theirs.public().id().to_string()));
        assert_eq!(release.file_size, Some(file.len() as u64));
        assert!(release.compressed_size.is_some_and(|size| size < one.len() as u64));
        assert_eq!(server.file_for(&one).await.unwrap(), (Digest::of(&file), "lamp-1.0.0.otaru".into()));
    }
}

#[tokio::test]
async fn a_release_file_that_contradicts_is_refused() {
    let (server, one, key) = (Server::new(None), image("lamp", "1.0.0", 1), key());
    server.upload(&release_file(&one, 5, None, &key)).await;
    for (file, words) in [
        (release_file(&one, 4, None, &key), "sequence 5"),
        (release_file(&one, 6, Some("lantern"), &key), "lantern 1.0.0 for esp32c3"),
        // A sequence is one image's.
        (release_file(&image("lamp", "1.1.0", 2), 5, None, &key), "--sequence 6"),
    ] {
        let (status, problem) = server.upload(&file).await;
        assert_eq!(status, 409);
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    let newer = release_file(&one, 6, None, &key);
    assert_eq!(server.upload(&newer).await.0, 200);
    assert_eq!(server.release(1).await.file, Some(Digest::of(&newer)));
}

#[tokio::test]
async fn with_a_key_only_trusted_signatures_are_taken() {
    let (server, one) = (Server::new(Some(key())), image("lamp", "1.0.0", 1));
    let foreign = release_file(&one, 1, None, &SecretKey::from_seed(&[9; 32]));
    let (status, problem) = server.upload(&foreign).await;
    assert_eq!((status, server.files()), (422, 0));
    assert!(problem["detail"].as_str().unwrap().contains("none of the keys"), "{problem}");
    assert_eq!(server.upload(&release_file(&one, 1, None, &key())).await.0, 201);
}

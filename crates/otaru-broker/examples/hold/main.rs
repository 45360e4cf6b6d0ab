//! Holds idle connections and tells what each costs: `hold 10000` in memory. `hold listen 1883` is a broker, and `hold 9000 1883`
//! connects to whatever broker is at that port, then retains a message for each client and sends one to each.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

mod open;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use otaru_broker::{Broker, Settings};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use open::Open;

/// Returns the memory that this process has resident, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Connects with 3.1.1 or 5 and subscribes twice, as a device does.
async fn log_in(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), number: usize) {
    let name = format!("device-{number:06}");
    let string = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let connect = [b"\0\x04MQTT\x05\x02\0\x3C\0", &string(&name)[..]].concat();
    let filters = [string("ESP32/ota/update"), string(&format!("ESP32/ota/{name}/update"))];
    let subscribe = [&[0, 1, 0][..], &filters[0], &[1], &filters[1], &[1]].concat();
    for (first, body) in [(0x10, connect), (0x82, subscribe)] {
        stream.write_all(&[&[first, body.len() as u8][..], &body].concat()).await.unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        stream.read_exact(&mut vec![0; answer[1].into()]).await.unwrap();
    }
}

async fn listen(port: u16) {
    let broker = Broker::new(Open, Settings::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    tokio::spawn(broker.listen(listener));
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let count = broker.stats().connections;
        if count != last {
            println!("{count} connections, {} KiB resident", resident() / 1024);
        }
        last = count;
    }
}

async fn in_memory(count: usize) {
    let broker = Broker::new(Open, Settings::default());
    let (near, far) = tokio::io::duplex(64);
    let before = resident();
    let pairs: Vec<_> = (0..count).map(|_| tokio::io::duplex(1024)).collect();
    drop((near, far));
    let streams = resident() - before;
    let mut held = Vec::with_capacity(count);
    let start = Instant::now();
    for (number, (mut near, far)) in pairs.into_iter().enumerate() {
        let peer = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 1));
        tokio::spawn(broker.serve(far, peer));
        log_in(&mut near, number).await;
        held.push(near);
    }
    let took = start.elapsed();
    let cost = resident() - before - streams;
    println!(
        "{count} connections in {took:?}: {} bytes each, streams not counted; {:?}",
        cost / count,
        broker.stats()
    );
}

/// Returns a PUBLISH of QoS 1, for version 5.
fn publish(topic: &str, retain: bool) -> Vec<u8> {
    let payload = [b'x'; 300];
    let body = [&(topic.len() as u16).to_be_bytes()[..], topic.as_bytes(), &[0, 1, 0], &payload].concat();
    [&[0x32 | u8::from(retain), body.len() as u8 & 127 | 128, (body.len() >> 7) as u8][..], &body].concat()
}

/// Reads one packet, whose length takes one or two bytes; returns what follows the fixed header.
async fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut length = usize::from(head[1] & 127);
    if head[1] > 127 {
        length |= usize::from(stream.read_u8().await.unwrap()) << 7;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    body
}

async fn at_port(count: usize, port: u16) {
    let mut held = Vec::with_capacity(count);
    let start = Instant::now();
    for number in 0..count {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        log_in(&mut stream, number).await;
        held.push(stream);
    }
    println!("{count} connections in {:?}", start.elapsed());
    let start = Instant::now();
    for (number, stream) in held.iter_mut().enumerate() {
        stream.write_all(&publish(&format!("ESP32/ota/device-{number:06}/status"), true)).await.unwrap();
        read(stream).await;
    }
    println!("{count} retained messages, one after the other, in {:?}", start.elapsed());
    let (mut writer, start) = (held.pop().unwrap(), Instant::now());
    let sending = tokio::spawn(async move {
        for number in 0..count - 1 {
            writer.write_all(&publish(&format!("ESP32/ota/device-{number:06}/update"), false)).await.unwrap();
            read(&mut writer).await;
        }
        writer
    });
    for stream in &mut held {
        let message = read(stream).await;
        let id = usize::from(u16::from_be_bytes([message[0], message[1]])) + 2;
        stream.write_all(&[0x40, 2, message[id], message[id + 1]]).await.unwrap();
    }
    let mut writer = sending.await.unwrap();
    println!("{} messages to one each in {:?}", count - 1, start.elapsed());
    let start = Instant::now();
    for _ in 0..10 {
        writer.write_all(&publish("ESP32/ota/update", false)).await.unwrap();
    }
    for stream in &mut held {
        for _ in 0..10 {
            let message = read(stream).await;
            let id = usize::from(u16::from_be_bytes([message[0], message[1]])) + 2;
            stream.write_all(&[0x40, 2, message[id], message[id + 1]]).await.unwrap();
        }
    }
    println!("10 messages to all in {:?}", start.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("listen"), Some(port)) => listen(port.parse().unwrap()).await,
        (Some(count), Some(port)) => at_port(count.parse().unwrap(), port.parse().unwrap()).await,
        (Some(count), None) => in_memory(count.parse().unwrap()).await,
        _ => println!("hold COUNT | hold COUNT PORT | hold listen PORT"),
    }
}

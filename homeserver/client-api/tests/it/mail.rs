//! E-mail addresses: shown to be one's own by a letter, which a mail server of these tests takes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::{Method, Request};
use engine::{AccountSettings, MailSecurity, MailSettings};
use homeserver_client_api::Options;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    interactive,
    server::{PASSWORD, Setup, TestServer, login},
};

const SECRET: &str = "monkeys_are_GREAT";
const ADD: &str = "/_matrix/client/v3/account/3pid/email/requestToken";
const REGISTER: &str = "/_matrix/client/v3/register/email/requestToken";
const RESET: &str = "/_matrix/client/v3/account/password/email/requestToken";

/// The letters that came, as they were on the wire.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    letters: Vec<String>,
    /// What the mail server says instead of taking a letter, to those of this address or to all.
    refusal: Option<(String, &'static str)>,
    /// How often it was asked to take one.
    asked: usize,
}

impl Mailbox {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().letters.len()
    }

    pub(crate) fn last(&self) -> String {
        self.0.lock().unwrap().letters.last().unwrap().clone()
    }

    /// From now on the mail server says this to whoever has a letter for an address that holds a text.
    pub(crate) fn refuse(&self, address: &str, answer: &'static str) {
        self.0.lock().unwrap().refusal = Some((address.to_owned(), answer));
    }

    pub(crate) fn take_all(&self) {
        self.0.lock().unwrap().refusal = None;
    }

    /// How often somebody came with a letter since this was asked last.
    pub(crate) fn asked(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    fn answer_to(&self, recipient: &str) -> &'static str {
        let mut taken = self.0.lock().unwrap();
        taken.asked += 1;
        match &taken.refusal {
            Some((address, answer)) if recipient.contains(address.as_str()) => answer,
            _ => "250 fine",
        }
    }

    /// What follows the question mark of the link in the last letter.
    fn link(&self) -> String {
        // The one encoding that letters with long lines have.
        let letter = self.last().replace("=\n", "").replace("=3D", "=");
        let (_, link) = letter.split_once("https://matrix.example.org/_nudge/client/v1/validate_address?").unwrap();
        link.split_whitespace().next().unwrap().to_owned()
    }
}

/// A mail server that takes everything.
async fn mail_server(mailbox: Mailbox) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take_letters(stream, mailbox.clone()));
        }
    });
    address
}

async fn take_letters(stream: TcpStream, mailbox: Mailbox) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 mail.example\r\n").await.unwrap();
    let mut letter: Option<String> = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match (&mut letter, line.as_str()) {
            (Some(text), ".") => {
                mailbox.0.lock().unwrap().letters.push(std::mem::take(text));
                letter = None;
                "250 taken"
            }
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
                continue;
            }
            (None, "DATA") => {
                letter = Some(String::new());
                "354 go on"
            }
            (None, "QUIT") => "221 bye",
            (None, line) if line.starts_with("RCPT") => mailbox.answer_to(line),
            (None, _) => "250 fine",
        };
        if writer.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn with_mail(options: Options, rate_limits: bool) -> (TestServer, Mailbox) {
    let mailbox = Mailbox::default();
    let address = mail_server(mailbox.clone()).await;
    let mail = MailSettings {
        host: address.ip().to_string(),
        port: address.port(),
        security: MailSecurity::None,
        credentials: None,
        from: "Nudge <nudge@example.org>".to_owned(),
        link_base_url: "https://matrix.example.org".to_owned(),
    };
    let accounts = AccountSettings { mail: Some(mail), ..AccountSettings::default() };
    (TestServer::start_as(Setup { rate_limits, accounts, options, ..Setup::default() }).await, mailbox)
}

fn ask(email: &str, attempt: u32) -> Value {
    json!({ "client_secret": SECRET, "email": email, "send_attempt": attempt })
}

async fn follow(server: &TestServer, link: &str) -> u16 {
    let page = server.get(&format!("/_nudge/client/v1/validate_address?{link}")).await;
    assert_eq!(page.status, 200);
    let form = Request::post("/_nudge/client/v1/validate_address").body(link.to_owned().into()).unwrap();
    server.request(form).await.status
}

#[tokio::test]
async fn an_address_is_added_shown_and_logs_in() {
    let (server, mailbox) = with_mail(Options::default(), false).await;
    let alice = server.register("alice").await;
    let sid = server.post(ADD, ask("Alice@Mail.Example", 1)).await.ok()["sid"].clone();
    assert!(mailbox.last().contains("To: alice@mail.example"), "{}", mailbox.last());
    let body = |auth: Value| json!({ "client_secret": SECRET, "sid": sid, "auth": auth });
    let add = "/_matrix/client/v3/account/3pid/add";
    let auth = interactive::password(&alice.user_id);
    server.post_as(&alice, add, body(auth.clone())).await.assert_error(400, "M_THREEPID_AUTH_FAILED");
    // Looking at the page, as mail servers do, confirms nothing.
    server.get(&format!("/_nudge/client/v1/validate_address?{}", mailbox.link())).await;
    server.post_as(&alice, add, body(auth.clone())).await.assert_error(400, "M_THREEPID_AUTH_FAILED");
    assert_eq!(follow(&server, &mailbox.link()).await, 200);
    assert_eq!(server.post_as(&alice, add, json!({ "client_secret": SECRET, "sid": sid })).await.status, 401);
    server.post_as(&alice, add, body(auth.clone())).await.ok();
    server.post_as(&alice, add, body(auth)).await.assert_error(400, "M_THREEPID_AUTH_FAILED");
    let list = server.get_as(&alice, "/_matrix/client/v3/account/3pid").await.ok();
    let shown = &list["threepids"][0];
    assert_eq!((&shown["medium"], &shown["address"]), (&json!("email"), &json!("alice@mail.example")));
    let mut by_address = login("", PASSWORD);
    by_address["identifier"] = json!({ "type": "m.id.thirdparty", "medium": "email", "address": "ALICE@mail.example" });
    assert_eq!(server.post("/_matrix/client/v3/login", by_address.clone()).await.ok()["user_id"], alice.user_id);
    let gone = json!({ "medium": "email", "address": "alice@mail.example" });
    let reply = server.post_as(&alice, "/_matrix/client/v3/account/3pid/delete", gone).await.ok();
    assert_eq!(reply, json!({ "id_server_unbind_result": "no-support" }));
    server.post("/_matrix/client/v3/login", by_address).await.assert_error(403, "M_FORBIDDEN");
    let list = server.get_as(&alice, "/_matrix/client/v3/account/3pid").await.ok();
    assert_eq!(list, json!({ "threepids": [] }));
}

#[tokio::test]
async fn s_116_what_an_address_shows_is_bound_and_counts_once() {
    let (server, mailbox) = with_mail(Options::default(), false).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let sid = server.post(ADD, ask("a@mail.example", 1)).await.ok()["sid"].clone();
    let again = server.post(ADD, ask("a@mail.example", 1)).await.ok();
    assert_eq!((&again["sid"], mailbox.count()), (&sid, 1), "the same attempt sends nothing");
    let first = mailbox.link();
    let again = server.post(ADD, ask("a@mail.example", 2)).await.ok();
    assert_eq!((&again["sid"], mailbox.count()), (&sid, 2));
    assert_eq!(follow(&server, &first).await, 400, "only the last letter counts");
    let tampered = mailbox.link().replace(SECRET, "another");
    assert_eq!(follow(&server, &tampered).await, 400);
    assert_eq!(follow(&server, &mailbox.link()).await, 200);
    let add = async |user: &crate::server::Session, sid: &Value, secret: &str| {
        let auth = interactive::password(&user.user_id);
        let body = json!({ "client_secret": secret, "sid": sid, "auth": auth });
        server.post_as(user, "/_matrix/client/v3/account/3pid/add", body).await
    };
    add(&alice, &sid, "another").await.assert_error(400, "M_THREEPID_AUTH_FAILED");
    add(&alice, &json!("nothing"), SECRET).await.assert_error(400, "M_THREEPID_AUTH_FAILED");
    // A session for another purpose.
    let reset = server.post(RESET, ask("a@mail.example", 1)).await.ok()["sid"].clone();
    add(&alice, &reset, SECRET).await.assert_error(400, "M_THREEPID_AUTH_FAILED");
    add(&alice, &sid, SECRET).await.ok();
    add(&bob, &sid, SECRET).await.assert_error(400, "M_THREEPID_AUTH_FAILED");
    // Too late.
    let sid = server.post(ADD, ask("b@mail.example", 1)).await.ok()["sid"].clone();
    assert_eq!(follow(&server, &mailbox.link()).await, 200);
    server.clock.advance(Duration::from_hours(1));
    add(&bob, &sid, SECRET).await.assert_error(400, "M_THREEPID_AUTH_FAILED");
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_by_whoever_has_the_address() {
    let options = Options { registration_requires_email: true, ..Options::default() };
    let (server, mailbox) = with_mail(options, false).await;
    // Registration with an address.
    let challenge =
        server.post("/_matrix/client/v3/register", json!({ "username": "alice", "password": PASSWORD })).await;
    assert_eq!(challenge.body["flows"], json!([{ "stages": ["m.login.email.identity"] }]));
    let sid = server.post(REGISTER, ask("alice@mail.example", 1)).await.ok()["sid"].clone();
    let identity = |sid: &Value, session: &Value| {
        let creds = json!({ "sid": sid, "client_secret": SECRET });
        json!({ "type": "m.login.email.identity", "threepid_creds": creds, "session": session })
    };
    let register = async |sid: &Value| {
        let auth = identity(sid, &challenge.body["session"]);
        let body = json!({ "username": "alice", "password": PASSWORD, "auth": auth });
        server.post("/_matrix/client/v3/register", body).await
    };
    register(&sid).await.assert_error(401, "M_FORBIDDEN");
    assert_eq!(follow(&server, &mailbox.link()).await, 200);
    let alice = register(&sid).await.ok();
    // Somebody else registers with the same address, and is told so by letter only.
    let answer = server.post(REGISTER, ask("alice@mail.example", 2)).await;
    assert_eq!(answer.status, 200);
    assert!(!mailbox.last().contains("validate_address"), "{}", mailbox.last());
    // The password.
    let path = "/_matrix/client/v3/account/password";
    let body = json!({ "new_password": "another good password" });
    let challenge = server.post(path, body.clone()).await;
    assert_eq!(challenge.body["flows"], json!([{ "stages": ["m.login.email.identity"] }]));
    let sid = server.post(RESET, ask("alice@mail.example", 1)).await.ok()["sid"].clone();
    let mut with_auth = body.clone();
    with_auth["auth"] = identity(&sid, &challenge.body["session"]);
    server.post(path, with_auth.clone()).await.assert_error(401, "M_FORBIDDEN");
    assert_eq!(follow(&server, &mailbox.link()).await, 200);
    server.post(path, with_auth.clone()).await.ok();
    server.post(path, with_auth).await.assert_error(401, "M_FORBIDDEN");
    server.post("/_matrix/client/v3/login", login("alice", "another good password")).await.ok();
    let token = alice["access_token"].as_str().unwrap();
    let whoami = server.get(&format!("/_matrix/client/v3/account/whoami?access_token={token}")).await;
    whoami.assert_error(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn s_118_whoever_asks_for_a_letter_learns_nothing() {
    let (server, mailbox) = with_mail(Options::default(), false).await;
    for (index, email) in ["nobody@mail.example", "else@mail.example"].into_iter().enumerate() {
        let reply = server.post(RESET, ask(email, 1)).await.ok();
        assert!(reply["sid"].is_string());
        assert_eq!(mailbox.count(), index + 1);
        assert!(!mailbox.last().contains("validate_address"), "{}", mailbox.last());
    }
    let injected = "a@mail.example\r\nBcc: b@mail.example";
    let long = format!("{}@mail.example", "a".repeat(10_000));
    for email in ["", "nobody", injected, &long] {
        server.post(ADD, ask(email, 1)).await.assert_error(400, "M_INVALID_PARAM");
    }
    let mut body = ask("a@mail.example", 1);
    body["next_link"] = json!("javascript:alert(1)");
    server.post(ADD, body).await.assert_error(400, "M_INVALID_PARAM");
    let mut body = ask("a@mail.example", 1);
    body["client_secret"] = json!("<script>");
    server.post(ADD, body).await.assert_error(400, "M_BAD_JSON");
    let page = server.get("/_nudge/client/v1/validate_address?sid=%22%3E%3Cscript%3E&token=x").await;
    assert!(!page.text.contains("<script>"), "{}", page.text);
}

#[tokio::test]
async fn s_118_and_s_152_letters_are_limited_by_mailbox_and_address() {
    let (server, mailbox) = with_mail(Options::default(), true).await;
    for attempt in 0..5 {
        let from = format!("192.0.2.{}", 50 + attempt);
        server.post_from(&from, ADD, &ask("a@mail.example", attempt + 1)).await.ok();
    }
    server.post_from("192.0.2.60", ADD, &ask("A@mail.example", 9)).await.assert_error(429, "M_LIMIT_EXCEEDED");
    for index in 0..4 {
        server.post_from("192.0.2.60", RESET, &ask(&format!("b{index}@mail.example"), 1)).await.ok();
    }
    server.post_from("192.0.2.60", RESET, &ask("c@mail.example", 1)).await.assert_error(429, "M_LIMIT_EXCEEDED");
    assert_eq!(mailbox.count(), 9);
}

#[tokio::test]
async fn without_a_mail_server_and_for_telephones_the_answer_is_no() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for path in [ADD, REGISTER, RESET] {
        server.post(path, ask("a@mail.example", 1)).await.assert_error(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
        let call =
            json!({ "client_secret": SECRET, "country": "GB", "phone_number": "07700900001", "send_attempt": 1 });
        let reply = server.post(&path.replace("/email/", "/msisdn/"), call).await;
        reply.assert_error(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
    }
    let body = json!({ "new_password": "another good password" });
    server.post("/_matrix/client/v3/account/password", body).await.assert_error(401, "M_MISSING_TOKEN");
    server.post("/_matrix/client/v3/account/deactivate", json!({})).await.assert_error(401, "M_MISSING_TOKEN");
    let bind = json!({ "client_secret": SECRET, "sid": "a", "id_server": "id.example", "id_access_token": "b" });
    server.post_as(&alice, "/_matrix/client/v3/account/3pid/bind", bind).await.assert_error(403, "M_FORBIDDEN");
    let older = server.send(Method::POST, "/_matrix/client/v3/account/3pid", Some(&alice.token), &json!({})).await;
    older.assert_error(400, "M_THREEPID_AUTH_FAILED");
}

//! Nobody gets in without a credential.

use crate::cluster::in_time;
use apiserver::{Access, ApiServer, Config};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};

pub(crate) async fn guarded() -> (SocketAddr, Arc<Access>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let access = Arc::new(Access::new(&[address.ip()]).unwrap());
    let config = Config { access: Some(access.clone()), ..Config::new(address) };
    let server = ApiServer::new(&config).unwrap();
    tokio::spawn(server.serve_tls(listener, access.clone(), std::future::pending()));
    (address, access)
}

pub(crate) async fn client(kubeconfig: &str, change: impl FnOnce(&mut Kubeconfig)) -> Client {
    let mut kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    change(&mut kubeconfig);
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

/// The code of an answer, 200 for a good one; none where there was none.
async fn code(client: &Client) -> Option<u16> {
    match in_time(client.list_core_api_versions()).await {
        Ok(_) => Some(200),
        Err(kube::Error::Api(status)) => Some(status.code),
        Err(_) => None,
    }
}

#[tokio::test]
async fn certificates_and_tokens_open_the_door_and_nothing_else_does() {
    let (address, access) = guarded().await;
    let kubeconfig = access.kubeconfig("lab", &format!("https://{address}")).unwrap();
    assert_eq!(code(&client(&kubeconfig, |_| {}).await).await, Some(200));

    let bare = |config: &mut Kubeconfig, token: Option<String>| {
        let user = config.auth_infos[0].auth_info.as_mut().unwrap();
        user.client_certificate_data = None;
        user.client_key_data = None;
        user.token = token.map(Into::into);
    };
    let nobody = client(&kubeconfig, |config| bare(config, None)).await;
    assert_eq!(code(&nobody).await, Some(401));
    assert!(nobody.apiserver_version().await.is_ok(), "the version is no secret");
    let token = access.token().to_owned();
    let bearer = client(&kubeconfig, |config| bare(config, Some(token.clone()))).await;
    assert_eq!(code(&bearer).await, Some(200));
    for wrong in [String::new(), token[1..].to_owned(), format!("{token}x")] {
        let wrong = client(&kubeconfig, |config| bare(config, Some(wrong))).await;
        assert_eq!(code(&wrong).await, Some(401));
    }

    let other = Access::new(&[address.ip()]).unwrap();
    let forged = other.kubeconfig("lab", &format!("https://{address}")).unwrap();
    let forged = Kubeconfig::from_yaml(&forged).unwrap();
    let stranger = client(&kubeconfig, |config| config.auth_infos = forged.auth_infos).await;
    assert_eq!(
        code(&stranger).await,
        None,
        "a certificate of another authority ends the connection"
    );
}

#[tokio::test]
async fn plain_http_on_the_guarded_door_is_not_answered() {
    let (address, _) = guarded().await;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /api HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    in_time(stream.read_to_end(&mut answer)).await.ok();
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1"), "{answer:?}");
}

#[tokio::test]
async fn a_socket_file_is_a_door_of_its_own() {
    let path = std::env::temp_dir().join(format!("podway-api-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let server = ApiServer::new(&Config::new("10.1.1.1:6443".parse().unwrap())).unwrap();
    tokio::spawn(server.serve_unix(listener, std::future::pending()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /api/v1/namespaces HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(answer.contains("200 OK") && answer.contains("NamespaceList"), "{answer}");
}

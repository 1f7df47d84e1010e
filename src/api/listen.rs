//! The socket: HTTP or HTTPS, CORS, and patience with slow clients that has an end.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method};
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::ServeError;
use crate::config::ServerSettings;

/// A bound socket that does not answer yet.
pub(super) struct Socket {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
    header_timeout: Duration,
}

/// A server that answers.
pub(super) struct Running {
    pub task: JoinHandle<io::Result<()>>,
    handle: Handle<SocketAddr>,
}

impl Socket {
    /// Binds the address and reads the certificate where the settings name one.
    ///
    /// # Errors
    /// An address that is taken or not ours; a certificate or key that is missing, unreadable or does not fit.
    pub(super) async fn open(settings: &ServerSettings) -> Result<Self, ServeError> {
        let tls = match (&settings.tls_cert, &settings.tls_key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(read_certificate(cert, key).await?),
            _ => return Err(ServeError::Settings("server.tls_cert and server.tls_key go together; set both".into())),
        };
        let listener = bind(settings).await?;
        let address = listener.local_addr()?;
        let header_timeout = Duration::from_secs(settings.header_timeout_s.clamp(1, 3600));
        Ok(Self { listener, address, tls, header_timeout })
    }

    /// `http://address` or `https://address`.
    pub(super) fn base(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers with `router` until told to stop.
    ///
    /// # Errors
    /// The operating system's, on taking the socket over.
    pub(super) fn serve(self, router: Router) -> io::Result<Running> {
        let handle = Handle::new();
        // A streamed answer is many small writes: none of them waits to be joined with the next.
        let mut server = axum_server::from_tcp(self.listener.into_std()?)?
            .acceptor(NoDelayAcceptor::new())
            .handle(handle.clone())
            // HTTP/2 would need limits of its own, and telling the two apart waits for bytes without a limit.
            .http1_only();
        server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(self.header_timeout);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let task = match self.tls {
            None => tokio::spawn(server.serve(service)),
            Some(config) => {
                let acceptor = RustlsAcceptor::new(config).handshake_timeout(self.header_timeout);
                tokio::spawn(server.map(|plain| acceptor.acceptor(plain)).serve(service))
            }
        };
        Ok(Running { task, handle })
    }
}

impl Running {
    /// Takes no more connections and lets running answers finish; `task` ends with the last of them.
    pub(super) fn stop(&self) {
        self.handle.graceful_shutdown(None);
    }

    /// Cuts off what still runs.
    pub(super) fn cut_off(&self) {
        self.handle.shutdown();
    }
}

async fn read_certificate(cert: &Path, key: &Path) -> Result<RustlsConfig, ServeError> {
    for (setting, path) in [("server.tls_cert", cert), ("server.tls_key", key)] {
        std::fs::File::open(path)
            .map_err(|error| ServeError::Settings(format!("{setting}: {}: {error}", path.display())))?;
    }
    let config = RustlsConfig::from_pem_file(cert, key).await.map_err(|error| {
        ServeError::Settings(format!(
            "server.tls_cert {} and server.tls_key {} are no PEM certificate chain with its private key: {error}",
            cert.display(),
            key.display()
        ))
    })?;
    let mut config = (*config.get_inner()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

async fn bind(settings: &ServerSettings) -> Result<TcpListener, ServeError> {
    let (host, port) = (settings.host.trim_matches(['[', ']']), settings.port);
    let failed = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => " (another program listens there; choose another port with --port)",
            _ => "",
        };
        ServeError::Bind { address: format!("{host}:{port}"), reason: format!("{error}{hint}") }
    };
    TcpListener::bind((host, port)).await.map_err(failed)
}

/// What a page of another origin may do: nothing, unless `server.cors_origins` names it.
///
/// # Errors
/// An origin that is none.
pub(super) fn cors(origins: &[String]) -> Result<Option<CorsLayer>, ServeError> {
    let origin = match origins {
        [] => return Ok(None),
        [any] if any == "*" => AllowOrigin::any(),
        named => AllowOrigin::list(named.iter().map(|origin| parse_origin(origin)).collect::<Result<Vec<_>, _>>()?),
    };
    let exposed = ["x-conversation-id", "x-support-action", "x-request-id", "retry-after"];
    Ok(Some(
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([Method::GET, Method::POST])
            // OpenAI's own clients send headers of their own making.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed.map(HeaderName::from_static))
            .max_age(Duration::from_secs(3600)),
    ))
}

fn parse_origin(origin: &str) -> Result<HeaderValue, ServeError> {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let sane = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ', ',']));
    match HeaderValue::from_str(origin) {
        Ok(value) if sane => Ok(value),
        _ => Err(ServeError::Settings(format!(
            "server.cors_origins: `{origin}` is no origin; write it as https://shop.example, or \"*\" alone for all"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_told_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = ServerSettings { port: taken.local_addr().unwrap().port(), ..ServerSettings::default() };
        let error = bind(&settings).await.unwrap_err().to_string();
        assert!(error.contains("--port"), "{error}");
    }

    #[tokio::test]
    async fn a_certificate_without_its_key_or_without_a_file_is_refused_by_name() {
        let half = ServerSettings { tls_cert: Some("cert.pem".into()), ..ServerSettings::default() };
        let error = Socket::open(&half).await.err().unwrap().to_string();
        assert!(error.contains("server.tls_key"), "{error}");
        let missing = ServerSettings { tls_key: Some("/no/such/key.pem".into()), ..half };
        let error = Socket::open(&missing).await.err().unwrap().to_string();
        assert!(error.contains("server.tls_cert: cert.pem"), "{error}");
    }

    #[test]
    fn an_origin_with_a_path_or_a_star_inside_is_refused() {
        assert!(cors(&[]).unwrap().is_none());
        assert!(cors(&["*".into()]).unwrap().is_some());
        assert!(cors(&["https://shop.example".into(), "http://localhost:3000".into()]).unwrap().is_some());
        for bad in ["shop.example", "https://shop.example/", "https://*.example", "https://", ""] {
            let error = cors(&[bad.into()]).err().unwrap().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }
}

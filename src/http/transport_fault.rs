//! In: an error of ureq. Out: why no reply came, in words of our own that hold no URL.

use ureq::Error;

/// Why no reply came. ureq's own messages may hold the URL, and with it a secret; these hold none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportFault {
    /// No connection could be made.
    #[error("no connection to the server: {0}")]
    Unreachable(&'static str),
    /// The time set for the reply ran out.
    #[error("the server is silent")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke ({0})")]
    Broken(std::io::ErrorKind),
    /// The reply is no HTTP.
    #[error("the reply is no HTTP")]
    NoHttp,
    /// The reply is larger than so many bytes, which are taken at most.
    #[error("the reply is larger than {0} bytes")]
    TooLarge(u64),
    /// The request cannot be sent.
    #[error("the request could not be sent")]
    NotSent,
}

impl TransportFault {
    /// Whether the same request may be answered another time.
    pub(crate) fn may_pass(self) -> bool {
        !matches!(self, Self::TooLarge(_) | Self::NotSent)
    }
}

/// What `error` says, in words of our own.
pub(crate) fn transport_fault(error: &Error) -> TransportFault {
    use TransportFault::Unreachable;
    match error {
        Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Unreachable("it timed out")
        }
        Error::Timeout(_) => TransportFault::TimedOut,
        Error::HostNotFound => Unreachable("the host name is unknown"),
        Error::ConnectionFailed => Unreachable("it failed"),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => {
            Unreachable("the proxy of the environment refused it")
        }
        Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) | Error::TlsRequired => {
            Unreachable("TLS could not be agreed on")
        }
        Error::Io(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Unreachable("it was refused"),
            std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                Unreachable("there is no route to it")
            }
            kind => TransportFault::Broken(kind),
        },
        Error::BodyExceedsLimit(limit) => TransportFault::TooLarge(*limit),
        Error::Protocol(_) | Error::LargeResponseHeader(..) | Error::BodyStalled => {
            TransportFault::NoHttp
        }
        _ => TransportFault::NotSent,
    }
}

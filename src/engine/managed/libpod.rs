//! Podman's own endpoint for builds in the place of Docker's: only there can a build be asked to run its steps in a
//! chroot, which needs no privileges. What goes in and comes out is the same, but for the last word, the image's id.

use bollard::BollardRequest;

/// What Docker's endpoint is not asked. `chroot`: Podman ignores it elsewhere. `layers`: one for each step, as engines do.
/// `outputformat`: the other, OCI's, has no HEALTHCHECK, no SHELL and no ONBUILD.
const ASKED: &str =
    "isolation=chroot&layers=true&outputformat=application%2Fvnd.docker.distribution.manifest.v2%2Bjson";

/// Any Podman since 4.0 answers there.
const BUILD: &str = "/v4.0.0/libpod/build";

/// Sends builds to Podman's own endpoint.
pub(super) fn rewrite(mut request: BollardRequest) -> BollardRequest {
    let uri = request.uri().to_string();
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    if let Some(before) = path.strip_suffix("/build")
        && let Ok(rewritten) = format!("{}{BUILD}?{ASKED}&{query}", before.trim_end_matches('/')).parse()
    {
        *request.uri_mut() = rewritten;
    }
    request
}

/// The id in a build's last word, which is all that this endpoint tells of it: a line with nothing else.
pub(in super::super) fn last_word(piece: &str) -> Option<String> {
    let id = piece.strip_suffix('\n')?;
    let is_id = id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| format!("sha256:{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(uri: &str) -> String {
        let mut request = BollardRequest::new(bollard::body_full(Vec::new().into()));
        *request.uri_mut() = uri.parse().unwrap();
        rewrite(request).uri().to_string()
    }

    #[test]
    fn only_builds_are_sent_elsewhere() {
        let asked = sent("http://2f746d70/build?t=a%3A1&nocache=true");
        assert_eq!(asked, format!("http://2f746d70/v4.0.0/libpod/build?{ASKED}&t=a%3A1&nocache=true"));
        for other in ["http://2f746d70/images/build/json", "http://2f746d70/build/prune", "http://2f746d70/info"] {
            assert_eq!(sent(other), other);
        }
    }

    #[test]
    fn the_last_word_is_an_id_and_nothing_else() {
        let id = "c332dec03cdbff6e63ccc06c8ce26d925b03ee3339d221b3494f484a4210dc3b";
        assert_eq!(last_word(&format!("{id}\n")), Some(format!("sha256:{id}")));
        for other in [id.to_owned(), format!("{id}0\n"), format!("--> {id}\n"), "COMMIT a:1\n".to_owned()] {
            assert_eq!(last_word(&other), None);
        }
    }
}

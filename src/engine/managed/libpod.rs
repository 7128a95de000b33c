//! Podman's own endpoint for builds in the place of Docker's: only there can a build be asked to run its steps in a
//! chroot, which needs no privileges. What goes in and comes out is the same, but for the last word, the image's id.

use crate::net::ImageId;

/// Where builds are asked for; any Podman since 4.0 answers there. What Docker's endpoint is not asked: `chroot`, which
/// Podman ignores elsewhere; `layers`, one for each step, as engines do; `outputformat`, as the other, OCI's, has no
/// HEALTHCHECK, no SHELL and no ONBUILD.
pub(in crate::engine) const BUILD: &str = "/v4.0.0/libpod/build?isolation=chroot&layers=true\
     &outputformat=application%2Fvnd.docker.distribution.manifest.v2%2Bjson";

/// The id in a build's last word, which is all that this endpoint tells of it: a line with nothing else.
pub(in crate::engine) fn final_image_id(piece: &str) -> Option<ImageId> {
    piece.strip_suffix('\n')?.parse().ok().map(ImageId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_an_id_and_nothing_else() {
        let id = "c332dec03cdbff6e63ccc06c8ce26d925b03ee3339d221b3494f484a4210dc3b";
        assert_eq!(final_image_id(&format!("{id}\n")), Some(format!("sha256:{id}").parse().unwrap()));
        for other in [id.to_owned(), format!("{id}0\n"), format!("--> {id}\n"), "COMMIT a:1\n".to_owned()] {
            assert_eq!(final_image_id(&other), None);
        }
    }
}

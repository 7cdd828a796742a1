//! A user by a certificate, as every guide makes one: openssl, `kubectl certificate approve`, kubectl, and roles that decide.

use crate::clients::{KUBECTLS, clients};
use crate::kept::{Scratch, Server};
use crate::labs::Done;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs lines in bash; they stop at the first failure.
fn shell(kubectl: &str, scratch: &Scratch, script: &str) -> Done {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(&scratch.0);
    command.env("KUBECONFIG", scratch.0.join("kubeconfig")).env("HOME", &scratch.0);
    let function = format!("() {{ {} \"$@\"\n}}", clients().join(kubectl).display());
    command.env("BASH_FUNC_kubectl%%", function).stdin(Stdio::null());
    Done::of(&command.output().unwrap())
}

#[test]
fn a_certificate_makes_a_user_whose_roles_decide() {
    for kubectl in KUBECTLS {
        let scratch = Scratch::new();
        std::fs::create_dir(&scratch.0).unwrap();
        let (_server, kubeconfig) = Server::start(&scratch);
        for key in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:secp384r1", "ed25519"] {
            make_a_user(kubectl, &scratch, &kubeconfig, key);
        }
    }
}

fn make_a_user(kubectl: &str, scratch: &Scratch, kubeconfig: &Path, key: &str) {
    let run = |script: &str| shell(kubectl, scratch, script);
    let check = |script: &str, expected: &str| {
        let done = run(script);
        assert_eq!(done.code, 0, "{kubectl}, {key}: {script}: {done:?}");
        assert!(done.stdout.contains(expected), "{script}: {expected:?} is not in {done:?}");
    };
    check(
        &format!(
            "openssl req -new -newkey {key} -noenc -keyout jane.key -out jane.csr -subj /O=dev/O=ops/CN=jane"
        ),
        "",
    );
    let request = "kubectl apply -f - <<E
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: jane}
spec:
  request: $(base64 -w0 jane.csr)
  signerName: kubernetes.io/kube-apiserver-client
  expirationSeconds: 86400
  usages: [client auth]
E";
    check(request, "created");
    check("kubectl get csr", "kubernetes-admin   24h                 Pending");
    check("kubectl certificate approve jane", "approved");
    check("kubectl get csr", "Approved,Issued");
    check("kubectl describe csr jane", "kubernetes-admin");
    check("kubectl get csr jane -o jsonpath='{.status.certificate}' | base64 -d >jane.crt", "");
    check("openssl x509 -in jane.crt -noout -subject", "O = dev, O = ops, CN = jane");
    check(
        "openssl x509 -in jane.crt -noout -purpose",
        "SSL client : Yes\nSSL client CA : No\nSSL server : No",
    );
    check(
        "kubectl config view --raw -o jsonpath='{.clusters[0].cluster.certificate-authority-data}' | base64 -d >ca.crt",
        "",
    );
    check("openssl verify -CAfile ca.crt -purpose sslclient jane.crt", "jane.crt: OK");
    let own = kubeconfig.with_extension("jane");
    std::fs::copy(kubeconfig, &own).unwrap();
    let as_jane = format!("kubectl --kubeconfig {} ", own.display());
    check(
        &format!(
            "{as_jane} config set-credentials jane --client-key jane.key --client-certificate jane.crt --embed-certs"
        ),
        "set",
    );
    check(&format!("{as_jane} config set-context --current --user jane"), "modified");
    check(&format!("{as_jane} auth whoami"), "[dev ops system:authenticated]");
    let refused = run(&format!("{as_jane} get pods"));
    let expected = "User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert!(refused.code == 1 && refused.stderr.contains(expected), "{refused:?}");
    check("kubectl create rolebinding ops --clusterrole view --group ops", "created");
    check(&format!("{as_jane} get serviceaccounts"), "default");
    check("kubectl delete rolebinding/ops csr/jane", "deleted");

    let denied = request.replace("name: jane", "name: other");
    check(&denied, "created");
    check("kubectl certificate deny other", "denied");
    check("kubectl get csr", "Denied");
    let late = run("kubectl certificate approve other");
    assert!(late.code == 1 && late.stderr.contains("is already Denied"), "{late:?}");
    check("kubectl delete csr other", "deleted");
}

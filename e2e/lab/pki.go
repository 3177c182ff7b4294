package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki writes the certificates and keys of one control plane into dir: ca.crt, api.crt and
// api.key (the API server's), client.crt and client.key (a member of system:masters, for the API
// server's calls to kubelets), sa.key (service account tokens).
func pki(dir string) error {
	caKey, err := newKey(dir, "ca.key")
	if err != nil {
		return err
	}
	ca := certificate("lab-ca")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	if err := writeCert(dir, "ca.crt", ca, ca, caKey, caKey); err != nil {
		return err
	}
	api := certificate("kube-apiserver")
	api.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	api.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	api.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)}
	client := certificate("lab-admin")
	client.Subject.Organization = []string{"system:masters"}
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for name, cert := range map[string]*x509.Certificate{"api": api, "client": client} {
		key, err := newKey(dir, name+".key")
		if err != nil {
			return err
		}
		if err := writeCert(dir, name+".crt", cert, ca, key, caKey); err != nil {
			return err
		}
	}
	_, err = newKey(dir, "sa.key")
	return err
}

func certificate(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
}

func newKey(dir, name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("lab: key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("lab: key: %w", err)
	}
	return key, writePEM(dir, name, "EC PRIVATE KEY", der)
}

func writeCert(dir, name string, cert, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("lab: certificate %s: %w", name, err)
	}
	return writePEM(dir, name, "CERTIFICATE", der)
}

func writePEM(dir, name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

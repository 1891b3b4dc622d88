package homeserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

const certificateLifetime = 48 * time.Hour

func (place Place) authority() string   { return place.Copied("complement/ca/ca.crt") }
func (place Place) certificate() string { return filepath.Join(place.Folder, "server.crt") }
func (place Place) key() string         { return filepath.Join(place.Folder, "server.key") }

// Makes a certificate for the server's name, signed by the authority that Complement made for this run.
func writeCertificate(place Place) error {
	authority, err := readPEM(place.authority())
	if err != nil {
		return err
	}
	parent, err := x509.ParseCertificate(authority)
	if err != nil {
		return err
	}
	authorityKey, err := readPEM(place.Copied("complement/ca/ca.key"))
	if err != nil {
		return err
	}
	signer, err := x509.ParsePKCS1PrivateKey(authorityKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: place.Name},
		DNSNames:     []string{place.Name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(certificateLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(place.certificate(), "CERTIFICATE", certificate),
		writePEM(place.key(), "PRIVATE KEY", keyBytes),
	)
}

func readPEM(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New(path + " is not PEM")
	}
	return block.Bytes, nil
}

func writePEM(path, kind string, bytes []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600)
}

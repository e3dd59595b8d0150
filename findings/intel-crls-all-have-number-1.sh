#!/usr/bin/env bash
# The revocation lists of Intel's SGX and TDX certificates carry the CRL number extension, and the number is
# 1 in every issue. RFC 5280 (5.2.3) wants it to rise from issue to issue of one issuer, and a changed
# list to have another number. Lists of the PCK Platform CA from 2023, 2025 and 2026 (44 certificates
# revoked, later 57), of the Root CA from the same years and one of the PCK Processor CA, as they are in the
# test data of the Go module go-tdx-guest at 91f9a52f36c7 and the crate dcap-qvl 0.7.1, all signed by
# the issuers whose certificates come with them: 1 throughout. Who keeps the highest number seen to refuse
# older lists, or tells by it whether a list is new, learns nothing here; thisUpdate alone tells.
set -euo pipefail
dir=$(mktemp -d); trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
mkdir crate
(cd crate && cargo init -q --lib --vcs none --name finding && cargo add -q dcap-qvl@=0.7.1 && cargo vendor -q vendor >/dev/null)
cat >main.go <<'GO'
package main

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/google/go-tdx-guest/testing/testdata"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var (
	issuers []*x509.Certificate
	lists   = map[string]*x509.RevocationList{} // by issuer and time of issue
)

func list(der []byte) {
	l := must(x509.ParseRevocationList(der))
	lists[l.Issuer.CommonName+l.ThisUpdate.String()] = l
}

func chain(text []byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		issuers = append(issuers, must(x509.ParseCertificate(block.Bytes)))
	}
}

func main() {
	list(testdata.PckCrlBody)
	list(testdata.RootCrlBody)
	for _, name := range must(filepath.Glob(os.Args[1] + "/*collateral.json")) {
		var c struct {
			Chain string `json:"pck_crl_issuer_chain"`
			PCK   string `json:"pck_crl"`
			Root  string `json:"root_ca_crl"`
		}
		if err := json.Unmarshal(must(os.ReadFile(name)), &c); err != nil {
			panic(err)
		}
		chain([]byte(c.Chain))
		list(must(hex.DecodeString(c.PCK)))
		list(must(hex.DecodeString(c.Root)))
	}
	var names []string
	for n := range lists {
		names = append(names, n)
	}
	sort.Strings(names)
	same, issues, lengths := len(issuers) > 0, map[string]int{}, map[int]bool{}
	for _, n := range names {
		l, signed := lists[n], false
		for _, c := range issuers {
			signed = signed || c.Subject.CommonName == l.Issuer.CommonName && l.CheckSignatureFrom(c) == nil
		}
		fmt.Printf("%s, issued %s: number %v, %d revoked, signature good %v\n", l.Issuer.CommonName,
			l.ThisUpdate.Format("2006-01-02"), l.Number, len(l.RevokedCertificateEntries), signed)
		same = same && signed && l.Number != nil && l.Number.Int64() == 1
		issues[l.Issuer.CommonName]++
		lengths[len(l.RevokedCertificateEntries)] = true
	}
	if !same || issues["Intel SGX PCK Platform CA"] < 4 || issues["Intel SGX Root CA"] < 3 || !lengths[44] || !lengths[57] {
		fmt.Println("CHANGED: this is not what the finding states")
		os.Exit(1)
	}
	fmt.Println("as stated")
}
GO
export GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>/dev/null
go get github.com/google/go-tdx-guest@v0.3.2-0.20260305110651-91f9a52f36c7 2>/dev/null
go run . crate/vendor/dcap-qvl/sample

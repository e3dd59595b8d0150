// Command oracle judges SEV-SNP evidence with go-sev-guest, for tests that
// compare it with our own verifier. It reads one JSON request a line from
// standard input and writes one JSON answer a line. A test builds it in a
// directory of its own, so none of its modules enter the project's.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
)

// request is one piece of evidence, judged at a time. Repeat is for benchmarks.
type request struct {
	Report, VCEK, ASK, ARK []byte
	Unix                   int64
	Repeat                 int
}

// answer has an empty string for each step that found nothing wrong.
type answer struct {
	Parse, Signature, Verify, Validate string
	TCB                                uint64 // of the VCEK, in Milan's and Genoa's layout
	HWID                               []byte
	Nanoseconds                        int64 // per verification, if repeated
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		out.Encode(judge(r))
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func judge(r request) (a answer) {
	report, err := abi.ReportToProto(r.Report)
	if a.Parse = text(err); err != nil {
		a.Signature, a.Verify, a.Validate = a.Parse, a.Parse, a.Parse
		return a
	}
	if vcek, err := x509.ParseCertificate(r.VCEK); err != nil {
		a.Signature = err.Error()
	} else {
		a.Signature = text(verify.SnpReportSignature(r.Report, vcek))
		if ext, err := kds.VcekCertificateExtensions(vcek); err == nil {
			a.TCB, a.HWID = uint64(ext.TCBVersion), ext.HWID[:]
		}
	}
	attestation := func() *spb.Attestation {
		return &spb.Attestation{Report: report, CertificateChain: &spb.CertificateChain{VcekCert: r.VCEK, AskCert: r.ASK, ArkCert: r.ARK}}
	}
	options := &verify.Options{DisableCertFetching: true, Now: time.Unix(r.Unix, 0)}
	a.Verify = text(verify.SnpAttestation(attestation(), options))
	vmpl := int(report.Vmpl)
	a.Validate = text(validate.SnpAttestation(attestation(), &validate.Options{ReportData: report.ReportData, VMPL: &vmpl,
		GuestPolicy: abi.SnpPolicy{Debug: true, SMT: true, MigrateMA: true}, PermitProvisionalFirmware: true}))
	start := time.Now()
	for range r.Repeat {
		verify.SnpAttestation(attestation(), options)
	}
	if r.Repeat > 0 {
		a.Nanoseconds = int64(time.Since(start)) / int64(r.Repeat)
	}
	return a
}

package client

import (
	"crypto/x509"
	"time"
)

// End is a date from which an exchange like this one would be refused.
type End struct {
	// Kind is "epoch", "tls_certificate" or "certificate", the last one of the guest's
	// evidence.
	Kind string
	// Name says whose it is.
	Name string
	At   time.Time
}

// ends lists the dates that an exchange has shown: the broker's epoch, the certificates
// of its connection up to the root, and those beside the guest's evidence. The policy's
// end is not the guest's to know.
func (x *exchange) ends() []End {
	out := []End{{"epoch", "the broker's", x.epoch.NotAfter.Time()}}
	if chains := x.conn.ConnectionState().VerifiedChains; len(chains) > 0 {
		for _, c := range chains[0] {
			out = append(out, End{"tls_certificate", "the broker's " + c.Subject.CommonName, c.NotAfter})
		}
	}
	for _, p := range x.evidence.Parts {
		if !p.Type.Certificate() {
			continue
		}
		if c, err := x509.ParseCertificate(p.Data); err == nil { // the broker has judged them already
			out = append(out, End{"certificate", c.Subject.CommonName, c.NotAfter})
		}
	}
	return out
}

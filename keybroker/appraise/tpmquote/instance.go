package tpmquote

import (
	"crypto/x509"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// instanceExtension is Google's, which names the virtual machine that a certificate was issued for
// (google/go-tpm-tools, server/verify.go, cloudComputeInstanceIdentifierOID):
//
//	SEQUENCE { zone UTF8String, project number INTEGER, project UTF8String, instance INTEGER,
//	           name UTF8String, [0] EXPLICIT SEQUENCE { [0] EXPLICIT INTEGER OPTIONAL,
//	           production [1] EXPLICIT BOOLEAN OPTIONAL } OPTIONAL }
const instanceExtension = "1.3.6.1.4.1.11129.2.1.21"

// maxInstanceText bounds each text of the extension, in bytes.
const maxInstanceText = 128

// instanceOf reads the extension; it returns nil if there is none, or if the certificate is not of
// Google's production, for then it says nothing of a real machine.
func instanceOf(cert *x509.Certificate) (*evidence.CloudInstance, error) {
	for _, e := range cert.Extensions { // none comes twice: crypto/x509 refuses that
		if e.Id.String() != instanceExtension {
			continue
		}
		instance, production, ok := readInstance(e.Value)
		switch {
		case !ok:
			return nil, refusal.New(ReasonCertificate, "the extension that names the certificate's virtual machine is malformed")
		case production:
			return instance, nil
		}
	}
	return nil, nil
}

// readInstance reads the extension's value. Fields that Google may add at the end are left unread.
func readInstance(der []byte) (_ *evidence.CloudInstance, production, ok bool) {
	outer := cryptobyte.String(der)
	var s, explicit, properties, inner cryptobyte.String
	var stated, versioned, flagged bool
	i := &evidence.CloudInstance{}
	if !outer.ReadASN1(&s, asn1.SEQUENCE) || !outer.Empty() ||
		!readInstanceText(&s, &i.Zone) || !s.ReadASN1Integer(&i.ProjectNumber) || !readInstanceText(&s, &i.Project) ||
		!s.ReadASN1Integer(&i.ID) || !readInstanceText(&s, &i.Name) ||
		!s.ReadOptionalASN1(&explicit, &stated, asn1.Tag(0).ContextSpecific().Constructed()) {
		return nil, false, false
	}
	if !stated {
		return i, false, true
	}
	if !explicit.ReadASN1(&properties, asn1.SEQUENCE) || !explicit.Empty() ||
		!properties.ReadOptionalASN1(&inner, &versioned, asn1.Tag(0).ContextSpecific().Constructed()) ||
		!properties.ReadOptionalASN1(&inner, &flagged, asn1.Tag(1).ContextSpecific().Constructed()) {
		return nil, false, false
	}
	if flagged && (!inner.ReadASN1Boolean(&production) || !inner.Empty()) {
		return nil, false, false
	}
	return i, production, true
}

// readInstanceText reads a name. What is not printable ASCII names no machine, project or zone.
func readInstanceText(s *cryptobyte.String, out *string) bool {
	var text cryptobyte.String
	if !s.ReadASN1(&text, asn1.UTF8String) || len(text) == 0 || len(text) > maxInstanceText {
		return false
	}
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	*out = string(text)
	return true
}

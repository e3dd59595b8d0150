//go:build !release

package tdxsim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// Documents are Intel's documents as its PCS serves them; chains are escaped as in its headers.
type Documents struct {
	TCBInfo, TCBInfoChain       []byte
	QEIdentity, QEIdentityChain []byte
	PCKCRL, PCKCRLChain         []byte
	RootCRL                     []byte
}

// Document is what TCB info and QE identity have in common.
type Document struct {
	// Issued and NextUpdate are its window; zero values are an hour before Options.Now and 30
	// days after that.
	Issued, NextUpdate time.Time
	// EvaluationNumber is its tcbEvaluationDataNumber; 0 is 18.
	EvaluationNumber uint32
}

func (d *Document) fill(o *Options) {
	if d.Issued.IsZero() {
		d.Issued = o.Now.Add(-time.Hour)
	}
	if d.NextUpdate.IsZero() {
		d.NextUpdate = d.Issued.AddDate(0, 0, 30)
	}
	if d.EvaluationNumber == 0 {
		d.EvaluationNumber = 18
	}
}

// Level is one level of any document.
type Level struct {
	SGX, TDX   [16]uint8 // of a platform
	PCESVN     uint16    // of a platform
	SVN        uint16    // of a module or enclave
	Status     string    // empty is UpToDate
	Date       time.Time // zero is a year before Options.Now
	Advisories []string
}

// Module is the identity of a TDX module.
type Module struct {
	ID               string // "TDX_01"
	MRSigner         [48]byte
	Attributes, Mask [8]byte // a zero mask is all ones
	Levels           []Level
}

// TCBInfo is Intel's TCB info for the platform.
type TCBInfo struct {
	Document
	// Module is for modules of major version 0; Modules are the others. Nil is one, TDX_01, with
	// one level for minor versions from 5.
	Module  Module
	Modules []Module
	// Levels, nil for one that the default platform reaches, UpToDate.
	Levels []Level
}

func (t *TCBInfo) fill(o *Options) {
	t.Document.fill(o)
	if t.Levels == nil {
		t.Levels = []Level{{SGX: [16]uint8{5, 5, 5, 5}, TDX: [16]uint8{5, 0, 3}, PCESVN: 13}}
	}
	if t.Modules == nil {
		t.Modules = []Module{{ID: "TDX_01", Levels: []Level{{SVN: 5}}}}
	}
}

// QEIdentity is Intel's identity of the quoting enclave, and what the emulated enclave has.
type QEIdentity struct {
	Document
	MRSigner   [32]byte
	ProductID  uint16   // 0 is 2
	MiscSelect [4]byte  // the mask is all ones
	Attributes [16]byte // zero is 11 and zeros; the mask is Intel's
	Levels     []Level  // nil is one for versions from 8
}

func (q *QEIdentity) fill(o *Options) {
	q.Document.fill(o)
	if q.ProductID == 0 {
		q.ProductID = 2
	}
	if q.Attributes == ([16]byte{}) {
		q.Attributes[0] = 0x11
	}
	if q.Levels == nil {
		q.Levels = []Level{{SVN: 8}}
	}
}

// Lists are the revocation lists.
type Lists struct {
	// ThisUpdate and NextUpdate are their window; zero values as of documents.
	ThisUpdate, NextUpdate time.Time
	// Number of both; 0 is 1.
	Number int64
	// RevokedByRoot and RevokedByCA are names of certificates, see [SerialOf].
	RevokedByRoot, RevokedByCA []string
}

func (l *Lists) fill(o *Options) {
	if l.ThisUpdate.IsZero() {
		l.ThisUpdate = o.Now.Add(-time.Hour)
	}
	if l.NextUpdate.IsZero() {
		l.NextUpdate = l.ThisUpdate.AddDate(0, 0, 30)
	}
	if l.Number == 0 {
		l.Number = 1
	}
}

// Collateral makes the documents for the platform.
func (t *TDX) Collateral() (Documents, error) {
	signer := escaped(pemOf(t.pki.tcbSigner, t.pki.root))
	ca, key := t.pki.platformCA, t.pki.keys.platformCA
	if t.opt.Platform.ProcessorCA {
		ca, key = t.pki.processorCA, t.pki.keys.processorCA
	}
	d := Documents{TCBInfoChain: signer, QEIdentityChain: signer, PCKCRLChain: escaped(pemOf(ca, t.pki.root))}
	var err error
	if d.TCBInfo, err = t.response("tcbInfo", t.tcbInfo()); err != nil {
		return d, err
	}
	if d.QEIdentity, err = t.response("enclaveIdentity", t.qeIdentity()); err != nil {
		return d, err
	}
	if d.RootCRL, err = t.list(t.pki.root, t.pki.keys.root, t.opt.Lists.RevokedByRoot); err != nil {
		return d, err
	}
	d.PCKCRL, err = t.list(ca, key, t.opt.Lists.RevokedByCA)
	return d, err
}

func escaped(text []byte) []byte {
	return []byte(strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20"))
}

// response signs a document and puts it with its signature.
func (t *TDX) response(member string, document any) ([]byte, error) {
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	if change := t.opt.Hooks.Document; change != nil {
		text = change(member, text)
	}
	signature, err := sign(t.pki.keys.tcbSigner, text)
	if err != nil {
		return nil, err
	}
	out := fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, member, text, signature)
	if change := t.opt.Hooks.Response; change != nil {
		out = change(member, out)
	}
	return out, nil
}

func (t *TDX) list(by *x509.Certificate, key *ecdsa.PrivateKey, revoked []string) ([]byte, error) {
	l := &x509.RevocationList{Number: big.NewInt(t.opt.Lists.Number), ThisUpdate: t.opt.Lists.ThisUpdate, NextUpdate: t.opt.Lists.NextUpdate}
	for _, name := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: SerialOf(name), RevocationTime: l.ThisUpdate})
	}
	if change := t.opt.Hooks.List; change != nil {
		change(by.Subject.CommonName, l)
	}
	return x509.CreateRevocationList(rand.Reader, l, by, key)
}

// object keeps the order of members, as Intel's documents have one.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, m := range o {
		text, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		b.WriteByte(separator)
		fmt.Fprintf(&b, "%q:%s", m.name, text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (d *Document) members(id string, version int) object {
	return object{{"id", id}, {"version", version}, {"issueDate", d.Issued.UTC().Format(time.RFC3339)},
		{"nextUpdate", d.NextUpdate.UTC().Format(time.RFC3339)}}
}

func (t *TDX) tcbInfo() object {
	i, p := &t.opt.TCBInfo, &t.opt.Platform
	modules, levels := []any{}, []any{}
	for _, m := range i.Modules {
		modules = append(modules, append(object{{"id", m.ID}}, append(m.members(), member{"tcbLevels", t.svnLevels(m.Levels)})...))
	}
	for _, l := range i.Levels {
		tcb := object{{"sgxtcbcomponents", components(l.SGX)}, {"pcesvn", l.PCESVN}, {"tdxtcbcomponents", components(l.TDX)}}
		levels = append(levels, t.level(l, tcb))
	}
	return append(i.Document.members("TDX", 3), member{"fmspc", hex.EncodeToString(p.FMSPC[:])}, member{"pceId", hex.EncodeToString(p.PCEID[:])},
		member{"tcbType", 0}, member{"tcbEvaluationDataNumber", i.EvaluationNumber}, member{"tdxModule", i.Module.members()},
		member{"tdxModuleIdentities", modules}, member{"tcbLevels", levels})
}

func (m *Module) members() object {
	mask := m.Mask
	if mask == ([8]byte{}) {
		copy(mask[:], bytes.Repeat([]byte{0xff}, len(mask)))
	}
	return object{{"mrsigner", hex.EncodeToString(m.MRSigner[:])}, {"attributes", hex.EncodeToString(m.Attributes[:])}, {"attributesMask", hex.EncodeToString(mask[:])}}
}

func components(svns [16]uint8) (list []any) {
	for _, svn := range svns {
		list = append(list, object{{"svn", svn}})
	}
	return list
}

func (t *TDX) svnLevels(levels []Level) []any {
	list := []any{}
	for _, l := range levels {
		list = append(list, t.level(l, object{{"isvsvn", l.SVN}}))
	}
	return list
}

func (t *TDX) level(l Level, tcb object) object {
	if l.Status == "" {
		l.Status = "UpToDate"
	}
	if l.Date.IsZero() {
		l.Date = t.opt.Now.AddDate(-1, 0, 0)
	}
	o := object{{"tcb", tcb}, {"tcbDate", l.Date.UTC().Format(time.RFC3339)}, {"tcbStatus", l.Status}}
	if l.Advisories != nil {
		o = append(o, member{"advisoryIDs", l.Advisories})
	}
	return o
}

func (t *TDX) qeIdentity() object {
	q := &t.opt.QE
	return append(q.Document.members("TD_QE", 2), member{"tcbEvaluationDataNumber", q.EvaluationNumber},
		member{"miscselect", hex.EncodeToString(q.MiscSelect[:])}, member{"miscselectMask", "FFFFFFFF"},
		member{"attributes", hex.EncodeToString(q.Attributes[:])}, member{"attributesMask", "FBFFFFFFFFFFFFFF0000000000000000"},
		member{"mrsigner", hex.EncodeToString(q.MRSigner[:])}, member{"isvprodid", q.ProductID}, member{"tcbLevels", t.svnLevels(q.Levels)})
}

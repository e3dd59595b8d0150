package tdx

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// What the documents must be.
const (
	tcbInfoID, tcbInfoVersion       = "TDX", 3
	qeIdentityID, qeIdentityVersion = "TD_QE", 2
)

// document is what TCB info and QE identity have in common.
type document struct {
	window
	evaluation uint32 // tcbEvaluationDataNumber
}

// level is one level of a document: at least these versions give this status.
type level struct {
	sgx, tdx   [16]uint8 // of a platform
	pceSVN     uint16    // of a platform
	svn        uint16    // of a module or enclave
	date       time.Time
	status     evidence.TCBStatus
	advisories []string
}

// identity is what an enclave or a module must be, and its levels.
type identity struct {
	id                   string // of a module: "TDX_01"
	signer               []byte
	attributes, mask     []byte
	levels               []level
	miscSelect, miscMask []byte // of an enclave
	productID            uint16 // of an enclave
}

// tcbInfo is Intel's TCB info of one platform (PCS API version 4, "Get TDX TCB Info").
type tcbInfo struct {
	document
	fmspc   [6]byte
	pceID   [2]byte
	module  identity // for modules of major version 0
	modules []identity
	levels  []level // the highest first
}

// readDocument reads the members that both documents have, and refuses another kind or version.
func readDocument(o object, id string, version uint64) (d document, err error) {
	gotID, gotVersion := o.text("id"), o.number("version", 1<<16)
	d.window = window{o.name, o.time("issueDate"), o.time("nextUpdate")}
	d.evaluation = uint32(o.number("tcbEvaluationDataNumber", 1<<32-1))
	switch {
	case *o.err != nil:
		return d, refusal.New(ReasonCollateralMalformed, "%w", *o.err)
	case gotID != id || gotVersion != version:
		return d, refusal.New(ReasonCollateralMismatch, "%s has id %q and version %d, want %q and %d", o.name, gotID, gotVersion, id, version)
	}
	return d, nil
}

func parseTCBInfo(text []byte) (*tcbInfo, error) {
	var failed error
	o := parseObject(text, "tcbInfo", &failed)
	d, err := readDocument(o, tcbInfoID, tcbInfoVersion)
	if err != nil {
		return nil, err
	}
	t := &tcbInfo{document: d, fmspc: [6]byte(o.hex("fmspc", 6)), pceID: [2]byte(o.hex("pceId", 2))}
	if o.number("tcbType", 1<<16) != 0 { // another way to compare versions
		o.fail("tcbType", "is not 0")
	}
	t.module = readModule(o.object("tdxModule"))
	if o.has("tdxModuleIdentities") {
		for _, m := range o.list("tdxModuleIdentities", 0) {
			t.modules = append(t.modules, readModuleIdentity(m))
		}
	}
	for _, l := range o.list("tcbLevels", 1) {
		t.levels = append(t.levels, readPlatformLevel(l))
	}
	if failed != nil {
		return nil, refusal.New(ReasonCollateralMalformed, "%w", failed)
	}
	slices.SortStableFunc(t.levels, comparePlatformLevels)
	return t, nil
}

// comparePlatformLevels puts the higher level first, as Intel's QVL does (TcbLevel::operator>):
// the first level that matches counts, and the document's order is not relied upon.
func comparePlatformLevels(a, b level) int {
	if c := bytes.Compare(b.sgx[:], a.sgx[:]); c != 0 {
		return c
	}
	if c := bytes.Compare(b.tdx[:], a.tdx[:]); c != 0 {
		return c
	}
	return int(b.pceSVN) - int(a.pceSVN)
}

func readModule(o object) identity {
	return identity{signer: o.hex("mrsigner", 48), attributes: o.hex("attributes", 8), mask: o.hex("attributesMask", 8)}
}

func readModuleIdentity(o object) identity {
	m := readModule(o)
	m.id = strings.ToUpper(o.text("id"))
	m.levels = readSVNLevels(o)
	return m
}

// readSVNLevels reads levels of an enclave or a module, the highest first.
func readSVNLevels(o object) (levels []level) {
	for _, l := range o.list("tcbLevels", 1) {
		r := readLevel(l)
		r.svn = uint16(l.object("tcb").number("isvsvn", 1<<16-1))
		levels = append(levels, r)
	}
	slices.SortStableFunc(levels, func(a, b level) int { return int(b.svn) - int(a.svn) })
	return levels
}

func readPlatformLevel(o object) level {
	l, tcb := readLevel(o), o.object("tcb")
	l.sgx, l.tdx = readComponents(tcb, "sgxtcbcomponents"), readComponents(tcb, "tdxtcbcomponents")
	l.pceSVN = uint16(tcb.number("pcesvn", 1<<16-1))
	return l
}

func readComponents(o object, member string) (svns [16]uint8) {
	list := o.list(member, len(svns))
	if len(list) > len(svns) {
		o.fail(member, fmt.Sprintf("has more than %d components", len(svns)))
		return svns
	}
	for i, c := range list {
		svns[i] = uint8(c.number("svn", 0xff))
	}
	return svns
}

// readLevel reads what levels of all kinds have. A status that this version does not know is
// kept: it is worse than any other, and no policy accepts it.
func readLevel(o object) level {
	return level{date: o.time("tcbDate"), status: evidence.TCBStatus(o.text("tcbStatus")), advisories: o.texts("advisoryIDs")}
}

// qeIdentity is Intel's identity of the TDX quoting enclave ("Get TDX QE Identity").
type qeIdentity struct {
	document
	identity
}

func parseQEIdentity(text []byte) (*qeIdentity, error) {
	var failed error
	o := parseObject(text, "enclaveIdentity", &failed)
	d, err := readDocument(o, qeIdentityID, qeIdentityVersion)
	if err != nil {
		return nil, err
	}
	q := &qeIdentity{document: d, identity: identity{
		signer: o.hex("mrsigner", 32), attributes: o.hex("attributes", 16), mask: o.hex("attributesMask", 16),
		miscSelect: o.hex("miscselect", 4), miscMask: o.hex("miscselectMask", 4),
		productID: uint16(o.number("isvprodid", 1<<16-1)), levels: readSVNLevels(o),
	}}
	if failed != nil {
		return nil, refusal.New(ReasonCollateralMalformed, "%w", failed)
	}
	return q, nil
}

// underMask says whether the masked bits of a value are what is wanted.
func underMask(value, want, mask []byte) bool {
	if len(value) != len(want) || len(mask) != len(want) {
		return false
	}
	for i := range want {
		if value[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}

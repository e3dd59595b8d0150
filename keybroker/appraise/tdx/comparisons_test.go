//go:build !release

package tdx

import (
	"bytes"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
)

// compared is an emulated quote with its documents, and what go-tdx-guest and we say of it.
type compared struct {
	o tdxsim.Options
	// google is whether go-tdx-guest accepts it, and why explains a disagreement with us. Where nothing
	// is refused here but the claims show what is unwanted, the reason begins with "claim".
	google bool
	ours   evidence.TCBStatus // "": refused
	why    string
}

// comparisons have rows for D1 to D8, which are numbers of a list of go-tdx-guest's faults at this
// version (docs/known-failures.md).
func comparisons() map[string]compared {
	debug, plain, lass := uint64(evidence.TDAttributeDebug|evidence.TDAttributeSEPTVEDisable), uint64(0), uint64(1<<27|evidence.TDAttributeSEPTVEDisable)
	oldModule := tdxsim.TCBInfo{Levels: levels(), Modules: modules()}
	signer := [48]byte{1}
	return map[string]compared{
		"v4":             {tdxsim.Options{}, true, ok, ""},
		"v4, padded":     {tdxsim.Options{Guest: tdxsim.Guest{Padding: 3065}}, true, ok, ""},
		"v5, body 2":     {tdxsim.Options{Guest: kinds[1]}, true, ok, ""},
		"v5, body 3":     {tdxsim.Options{Guest: kinds[2]}, true, ok, ""},
		"v5, body 4":     {tdxsim.Options{Guest: kinds[3]}, false, ok, "its parser ends at body type 3"},
		"Processor CA":   {tdxsim.Options{Platform: tdxsim.Platform{ProcessorCA: true}}, false, ok, "it looks for the Platform CA's name alone"},
		"PCK revoked":    {tdxsim.Options{Lists: tdxsim.Lists{RevokedByCA: []string{tdxsim.PCK}}}, false, "", ""},
		"CA revoked":     {tdxsim.Options{Lists: tdxsim.Lists{RevokedByRoot: []string{tdxsim.PlatformCA}}}, false, "", ""},
		"signer revoked": {tdxsim.Options{Lists: tdxsim.Lists{RevokedByRoot: []string{tdxsim.TCBSigner}}}, false, "", ""},
		"lists ended":    {tdxsim.Options{Lists: tdxsim.Lists{NextUpdate: simNow.Add(-time.Second)}}, false, "", ""},
		"QE out of date": {tdxsim.Options{QE: tdxsim.QEIdentity{Levels: []tdxsim.Level{{SVN: 8, Status: "OutOfDate"}}}}, false, ood, "claim: a status is for the policy to judge"},
		"module out of date": {tdxsim.Options{Platform: tdxsim.Platform{Components: svns(5, 5), TEETCBSVN: svns(4, 1, 3)}, TCBInfo: oldModule}, false, ood,
			"claim: a status is for the policy to judge"},
		"SW hardening": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{{Status: "SWHardeningNeeded"}}, Modules: []tdxsim.Module{}}, Platform: tdxsim.Platform{TEETCBSVN: svns(5, 0, 3)}},
			false, sw, "claim: it takes no status but UpToDate, and cannot be told otherwise"},
		"D1: platform revoked": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{{Status: "Revoked"}}}}, true, rev,
			"with a module of version 1 it looks at the module's status alone"},
		"D1: platform out of date": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{{Status: "OutOfDate"}}}}, true, ood, "the same"},
		"D4: TCB info from the future": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{Issued: simNow.AddDate(0, 2, 0)}}}, true, "",
			"it does not look at issueDate"},
		"D4: QE identity from the future": {tdxsim.Options{QE: tdxsim.QEIdentity{Document: tdxsim.Document{Issued: simNow.AddDate(0, 2, 0)}}}, true, "",
			"it does not look at issueDate"},
		"D4: lists from the future": {tdxsim.Options{Lists: tdxsim.Lists{ThisUpdate: simNow.AddDate(0, 2, 0)}}, true, "", "it does not look at thisUpdate"},
		"D5: module of another signer": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Modules: []tdxsim.Module{{ID: "TDX_01", MRSigner: signer, Levels: []tdxsim.Level{{SVN: 5}}}}}}, true, "",
			"it compares with tdxModule, which is for version 0"},
		"D5: module as its own identity says": {tdxsim.Options{Platform: tdxsim.Platform{MRSignerSEAM: signer},
			TCBInfo: tdxsim.TCBInfo{Modules: []tdxsim.Module{{ID: "TDX_01", MRSigner: signer, Levels: []tdxsim.Level{{SVN: 5}}}}}}, false, ok, "the same, the other way round"},
		"D3, D6: debug, v4":                    {tdxsim.Options{Guest: tdxsim.Guest{Attributes: &debug}}, true, ok, "claim: it says nothing of it"},
		"D6: debug, v5":                        {tdxsim.Options{Guest: tdxsim.Guest{Version: 5, Attributes: &debug}}, true, ok, "claim: it says nothing of it"},
		"D6: service trust domain":             {tdxsim.Options{Guest: tdxsim.Guest{Version: 5, MRServiceTD: [48]byte{1}}}, true, ok, "claim: it says nothing of it"},
		"D6: module rolled back":               {tdxsim.Options{Guest: kinds[2], Platform: tdxsim.Platform{TEETCBSVN2: svns(4, 1, 3)}}, true, unm, "it does not read TEE_TCB_SVN2"},
		"D7: without SEPT_VE_DISABLE":          {tdxsim.Options{Guest: tdxsim.Guest{Attributes: &plain}}, true, ok, "claim: it says nothing of it"},
		"D8: LASS":                             {tdxsim.Options{Guest: tdxsim.Guest{Attributes: &lass}}, true, ok, "claim: see TestUnknownAttributesAreClaims"},
		"levels in another order":              {tdxsim.Options{Platform: tdxsim.Platform{Components: svns(5, 5), TEETCBSVN: svns(5, 0, 3)}, TCBInfo: tdxsim.TCBInfo{Levels: levels()}}, false, ok, "it relies on the document's order, the QVL does not"},
		"a PCK with an extension more":         {tdxsim.Options{Hooks: tdxsim.Hooks{Certificate: func(n string, c *tdxsim.CertificateTemplate) { addOCSP(n, c) }}}, false, ok, "it wants exactly six extensions"},
		"QE report with a reserved byte":       {tdxsim.Options{Hooks: tdxsim.Hooks{QEReport: func(r []byte) { r[100] = 1 }}}, true, "", "reserved bytes must be zero"},
		"text behind the quote":                {tdxsim.Options{Hooks: tdxsim.Hooks{Quote: func(q []byte) []byte { return append(q, "text"...) }}}, true, "", "nobody signed it"},
		"TCB info with a member twice":         {tdxsim.Options{Hooks: tdxsim.Hooks{Document: twice}}, true, "", "which of the two counts is up to the reader"},
		"D2: certification data of any length": {tdxsim.Options{Hooks: tdxsim.Hooks{Quote: func(q []byte) []byte { q[636+64+64+2+3] = 0x7f; return q }}}, false, "", ""},
	}
}

func addOCSP(name string, c *tdxsim.CertificateTemplate) {
	if name == tdxsim.PCK {
		c.OCSPServer = []string{"http://localhost.invalid"}
	}
}

func twice(member string, text []byte) []byte {
	if member == "tcbInfo" {
		return bytes.Replace(text, []byte(`"tcbType":0`), []byte(`"tcbType":0,"tcbType":0`), 1)
	}
	return text
}

//go:build !release

package azuresim

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Layout of a version 4 quote, and of a TDREPORT.
const (
	quoteHeader, quoteBody = 48, 584
	tdReportSize           = 0x400
	tcbInfoAt, tdInfoAt    = 0x100, 0x200
	tcbInfoSize            = 239
)

// tdReport makes the TDREPORT that a quote could have been made from. Its MAC is zero: nobody
// but the CPU could make or check it.
func tdReport(quote []byte) ([]byte, error) {
	if len(quote) < quoteHeader+quoteBody || binary.LittleEndian.Uint16(quote) != 4 {
		return nil, errors.New("azuresim: not a quote of version 4")
	}
	body, r := quote[quoteHeader:quoteHeader+quoteBody], make([]byte, tdReportSize)
	r[0] = 0x81 // TDX
	copy(r[0x80:], body[520:])
	r[tcbInfoAt], r[tcbInfoAt+1], r[tcbInfoAt+2] = 0xff, 1, 3 // fields that are valid
	copy(r[tcbInfoAt+8:], body[:120])                         // TEE_TCB_SVN to SEAMATTRIBUTES
	copy(r[tcbInfoAt+128:], body[:16])                        // the module's version now
	copy(r[tdInfoAt:], body[120:520])                         // TDATTRIBUTES to RTMR3
	tcb, info := sha512.Sum384(r[tcbInfoAt:tcbInfoAt+tcbInfoSize]), sha512.Sum384(r[tdInfoAt:])
	copy(r[0x20:], tcb[:])
	copy(r[0x50:], info[:])
	return r, nil
}

// ServeHTTP answers as the instance metadata service does: certificates to a VM of SEV-SNP,
// quotes to one of TDX.
func (v *VM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, status := map[string]string{}, http.StatusNotFound
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/metadata/THIM/amd/certification" && v.opt.SNP != nil:
		answer, status = v.certificates(r)
	case r.Method == http.MethodPost && r.URL.Path == "/acc/tdquote" && v.opt.TDX != nil:
		answer, status = v.quote(w, r)
	}
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		return // the client is gone
	}
}

func (v *VM) certificates(r *http.Request) (map[string]string, int) {
	if r.Header.Get("Metadata") != "true" {
		return nil, http.StatusBadRequest
	}
	env, err := v.opt.SNP.Collect(r.Context(), [64]byte{})
	if err != nil {
		return nil, http.StatusInternalServerError
	}
	text := func(t evidence.PartType) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: env.Part(t)}))
	}
	return map[string]string{
		"vcekCert": text(evidence.EndorsementVCEK), "certificateChain": text(evidence.EndorsementASK) + text(evidence.EndorsementARK),
		"tcbm": "0000000000000000", "cacheControl": "86400",
	}, http.StatusOK
}

// quote signs the TDREPORT of this VM and of no other.
func (v *VM) quote(w http.ResponseWriter, r *http.Request) (map[string]string, int) {
	var request struct {
		Report string `json:"report"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&request)
	report, decoding := base64.RawURLEncoding.DecodeString(request.Report)
	if err != nil || decoding != nil || len(report) != tdReportSize {
		return nil, http.StatusBadRequest
	}
	runtime, err := v.runtime()
	if err != nil {
		return nil, http.StatusInternalServerError
	}
	if own := digest(v.opt.Hash, runtime); !bytes.Equal(own[:], report[0x80:0xc0]) {
		return nil, http.StatusBadRequest
	}
	quote, err := v.opt.TDX(r.Context(), [64]byte(report[0x80:0xc0]))
	if err != nil {
		return nil, http.StatusInternalServerError
	}
	if own, err := tdReport(quote); err != nil || !bytes.Equal(own, report) {
		return nil, http.StatusBadRequest
	}
	return map[string]string{"quote": base64.RawURLEncoding.EncodeToString(quote)}, http.StatusOK
}

package credsock

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/secrets"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func TestAddresses(t *testing.T) {
	for address, want := range map[string]secrets.Asker{
		"@95f2b1ae3c07d541/unit/nginx.service/tls.key": {Unit: "nginx.service", Credential: "tls.key"},
		"@0/unit/vhost@a.service/x":                    {Unit: "vhost@a.service", Credential: "x"},
		`@0/unit/a\x2db.mount/x`:                       {Unit: `a\x2db.mount`, Credential: "x"},
		"@0/cryptsetup/data":                           {Volume: "data"},
	} {
		if got, err := parseAddress(address); err != nil || got != want {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
	}
	for _, address := range []string{
		"", "@", "@/", "@0", "@0/", "@0/unit", "@0/unit/", "@0/unit/a.service", "@0/unit/a.service/", "@0/unit//x", "@0/unit/a.service/x/y", "@0/unit/a.service/x/",
		"0/unit/a.service/x", "/run/0/unit/a.service/x", "@g/unit/a.service/x", "@A/unit/a.service/x", "@/unit/a.service/x", "@00000000000000000/unit/a.service/x",
		"@0/Unit/a.service/x", "@0/cryptsetup/", "@0/cryptsetup/a/b", "@0/cryptsetup-fido2/data", "@0/unit/a b.service/x", "@0/unit/a.service/x\n", "@0/unit/\u00e4.service/x",
		"@0/unit/a.service/" + strings.Repeat("x", 100),
	} {
		got, err := parseAddress(address)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonPeer || got != (secrets.Asker{}) {
			t.Errorf("%q: %+v, %v", address, got, err)
		}
	}
}

// FuzzPeerAddress: whatever an address says, what is read from it stands in it, in that order.
func FuzzPeerAddress(f *testing.F) {
	for _, s := range []string{"@95f2b1ae3c07d541/unit/nginx.service/tls.key", "@0/cryptsetup/data", "@0/unit/a/b/c", "/tmp/x", "@//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		a, err := parseAddress(address)
		if err != nil {
			if a != (secrets.Asker{}) {
				t.Errorf("%q: refused with %+v", address, a)
			}
			return
		}
		_, rest, _ := strings.Cut(address, "/")
		if want := map[bool]string{true: "unit/" + a.Unit + "/" + a.Credential, false: "cryptsetup/" + a.Volume}[a.Volume == ""]; rest != want || a.Peer != nil || a.Name != "" {
			t.Errorf("%q: %+v", address, a)
		}
	})
}

package policy

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func askedFor(resources ...string) Request {
	in := good()
	return Request{Now: in.Now, Resources: resources, Claims: in.Claims, Guest: in.Guest}
}

// TestARequestIsRefusedAsAWhole: by its first resource that is, and with the reasons of that one.
func TestARequestIsRefusedAsAWhole(t *testing.T) {
	p := mustParse(t, full())
	if r := askedFor("models/tiny", "models/tiny").Decide(p); !r.Allowed || len(r.Decisions) != 2 || r.LeaseTTL <= 0 {
		t.Errorf("%+v", r)
	}
	r := askedFor("models/tiny", "other/a", "other/b").Decide(p)
	if r.Allowed || r.Refused != "other/a" || len(r.Reasons) != 1 || r.Reasons[0].Reason != ReasonResource || r.LeaseTTL != 0 {
		t.Errorf("%+v", r)
	}
	if r := askedFor().Decide(p); r.Allowed || len(r.Reasons) == 0 {
		t.Errorf("nothing was asked for: %+v", r)
	}
	if r := askedFor("models/tiny").Decide(nil); r.Allowed || len(r.Reasons) == 0 {
		t.Errorf("no policy: %+v", r)
	}
	last := askedFor("models/tiny")
	_, end := p.Validity()
	last.Now = end.Add(-time.Microsecond)
	if r := last.Decide(p); r.Allowed || r.Reasons[0].Reason != "lease-time-not-granted" {
		t.Errorf("a lease of no time: %+v", r)
	}
	if r := last.Decide(p.WithoutLife()); !r.Allowed {
		t.Errorf("its life was left aside: %+v", r)
	}
}

// The document of a request, written out by hand but for the claims, whose form has vectors of its own.
func TestRequestDocument(t *testing.T) {
	r := askedFor("models/tiny", "models/b")
	r.Now = time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("", 3600))
	r.Guest.ClockSource = 0
	claims, err := r.Claims.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	g := r.Guest
	want := `{"format":1,"time":"2026-03-04T04:06:07.000000008Z","resources":["models/tiny","models/b"],"guest":{"image_id":"` + g.ImageID + `","agent_build":"` + g.AgentBuild +
		`","tenant":"` + g.Tenant + `","memory_limit":` + strconv.FormatUint(g.MemoryLimit, 10) + `,"clock_source":"` + g.ClockSource.String() + `"},"claims":` + string(claims) + `}`
	got, err := r.Document()
	if err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant\n%s", got, err, want)
	}
	back, err := ParseRequest(got)
	if err != nil || back.Claims.Digest() != r.Claims.Digest() || back.Guest != r.Guest || !back.Now.Equal(r.Now) {
		t.Fatalf("%+v, %v", back, err)
	}
	p := mustParse(t, full())
	if a, b := r.Decide(p), back.Decide(p); a.Allowed != b.Allowed || len(a.Reasons) != len(b.Reasons) {
		t.Errorf("%+v, %+v", a, b)
	}
	if _, err := ParseRequest([]byte(strings.Replace(want, `"format":1`, `"format":2`, 1))); err == nil || !strings.Contains(err.Error(), "format: got 2, want 1") {
		t.Errorf("another format: %v", err)
	}
	for name, bad := range map[string]string{
		"format": strings.Replace(want, `"format":1`, `"format":2`, 1), "unknown key": strings.Replace(want, `{"format"`, `{"x":1,"format"`, 1),
		"space": " " + want, "order": strings.Replace(want, `"format":1,`, "", 1), "behind": want + "{}", "empty": "", "large": want + strings.Repeat(" ", maxRequestBytes),
		"local time": strings.Replace(want, "04:06:07.000000008Z", "05:06:07.000000008+01:00", 1),
	} {
		if _, err := ParseRequest([]byte(bad)); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

// TestTDXRequestComesBack: claims of every part have one form.
func TestTDXRequestComesBack(t *testing.T) {
	in := tdxGood()
	data, err := Request{Now: in.Now, Resources: []string{"models/a"}, Claims: in.Claims, Guest: in.Guest}.Document()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRequest(data); err != nil {
		t.Error(err)
	}
}

func FuzzParseRequest(f *testing.F) {
	data, err := askedFor("models/tiny").Document()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRequest(data)
		if err != nil {
			return
		}
		again, err := r.Document()
		if err != nil || string(again) != string(data) {
			t.Fatalf("%s became %s (%v)", data, again, err)
		}
	})
}

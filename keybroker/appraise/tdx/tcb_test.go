//go:build !release

package tdx

import (
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
)

// Intel's table (QVL, convergeTcbStatuses): the platform's status and one of module or QE.
func TestStatusesConvergeAsIntelSays(t *testing.T) {
	platform := []evidence.TCBStatus{ok, sw, conf, csw, ood, oodc, rev}
	for component, want := range map[evidence.TCBStatus][]evidence.TCBStatus{
		ok:  {ok, sw, conf, csw, ood, oodc, rev},
		ood: {ood, ood, oodc, oodc, ood, oodc, rev},
		rev: {rev, rev, rev, rev, rev, rev, rev},
		unm: {unm, unm, unm, unm, unm, unm, rev},
		// Here the QVL keeps the platform's status.
		conf: {conf, csw, conf, csw, oodc, oodc, rev},
		oodc: {oodc, oodc, oodc, oodc, oodc, oodc, rev},
		// A status that this version does not know is worse than any.
		"Melted": {"Melted", "Melted", "Melted", "Melted", "Melted", "Melted", "Melted"},
	} {
		for i, p := range platform {
			for _, got := range []evidence.TCBStatus{converge(p, component, ok), converge(p, ok, component), converge(component, p, p)} {
				if got != want[i] {
					t.Errorf("%s with %s: %s, want %s", p, component, got, want[i])
				}
			}
		}
	}
}

func TestRelaunchIsAdvisedWhereTheModuleWasUpdated(t *testing.T) {
	for _, tc := range []struct{ launch, current, want evidence.TCBStatus }{
		{ood, ok, rel}, {ood, sw, rel}, {ood, conf, relc}, {ood, csw, relc}, {oodc, ok, relc}, {oodc, conf, relc},
		{ood, ood, ood}, {oodc, oodc, oodc}, {ok, ok, ok}, {conf, conf, conf}, {sw, ok, sw}, {rev, ok, rev}, {unm, ok, unm}, {ood, unm, unm},
		{ood, rev, rev}, {"Melted", ok, "Melted"},
		// The module was rolled back under the guest: the QVL would say UpToDate.
		{ok, ood, ood}, {ok, unm, unm}, {ok, rev, rev}, {conf, ood, ood},
	} {
		if got := relaunch(tc.launch, tc.current); got != tc.want {
			t.Errorf("%s at launch, %s now: %s, want %s", tc.launch, tc.current, got, tc.want)
		}
	}
}

func svns(v ...uint8) (s [16]uint8) {
	copy(s[:], v)
	return s
}

// levels are three of a platform, not in order: Intel's documents are, but nothing relies on it.
func levels() []tdxsim.Level {
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	return []tdxsim.Level{
		{SGX: svns(3, 3), TDX: svns(3, 0, 2), PCESVN: 11, Status: "OutOfDate", Date: year(2022), Advisories: []string{"INTEL-SA-00002", "INTEL-SA-00001"}},
		{SGX: svns(5, 5), TDX: svns(5, 0, 3), PCESVN: 13, Date: year(2024)},
		{SGX: svns(5, 5), TDX: svns(5, 0, 3), PCESVN: 5, Status: "ConfigurationNeeded", Date: year(2023), Advisories: []string{"INTEL-SA-00003"}},
	}
}

func modules() []tdxsim.Module {
	return []tdxsim.Module{{ID: "TDX_03", Levels: []tdxsim.Level{{SVN: 3}}},
		{ID: "TDX_01", Levels: []tdxsim.Level{{SVN: 2, Status: "OutOfDate", Date: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), Advisories: []string{"INTEL-SA-00001"}}, {SVN: 5}}},
		{ID: "tdx_0a", Levels: []tdxsim.Level{{SVN: 1, Status: "Revoked"}}}}
}

func TestLevelsAreMatchedByComponent(t *testing.T) {
	type sim = tdxsim.Platform
	for name, tc := range map[string]struct {
		p                        sim
		status, platform, module evidence.TCBStatus
		year                     int
		advisories               []string
	}{
		"latest":                        {sim{Components: svns(5, 5), TEETCBSVN: svns(5, 1, 3)}, ok, ok, ok, 2024, nil},
		"above the latest":              {sim{Components: svns(6, 9, 1), TEETCBSVN: svns(9, 1, 9), PCESVN: 14}, ok, ok, ok, 2024, nil},
		"one SGX component below":       {sim{Components: svns(9, 4), TEETCBSVN: svns(5, 1, 3)}, ood, ood, ok, 2022, []string{"INTEL-SA-00001", "INTEL-SA-00002"}},
		"PCE below":                     {sim{Components: svns(5, 5), TEETCBSVN: svns(5, 1, 3), PCESVN: 12}, conf, conf, ok, 2023, []string{"INTEL-SA-00003"}},
		"TDX component 2 below":         {sim{Components: svns(5, 5), TEETCBSVN: svns(5, 1, 2)}, ood, ood, ok, 2022, []string{"INTEL-SA-00001", "INTEL-SA-00002"}},
		"minor version of the module":   {sim{Components: svns(5, 5), TEETCBSVN: svns(4, 1, 3)}, ood, ok, ood, 2021, []string{"INTEL-SA-00001"}},
		"module and PCE":                {sim{Components: svns(5, 5), TEETCBSVN: svns(4, 1, 3), PCESVN: 12}, oodc, conf, ood, 2021, []string{"INTEL-SA-00001", "INTEL-SA-00003"}},
		"module and platform":           {sim{Components: svns(3, 3), TEETCBSVN: svns(4, 1, 3)}, ood, ood, ood, 2021, []string{"INTEL-SA-00001", "INTEL-SA-00002"}},
		"module below every level":      {sim{Components: svns(5, 5), TEETCBSVN: svns(1, 1, 3)}, unm, ok, unm, 2024, nil},
		"module of no identity":         {sim{Components: svns(5, 5), TEETCBSVN: svns(5, 2, 3)}, unm, ok, unm, 2024, nil},
		"module revoked":                {sim{Components: svns(5, 5), TEETCBSVN: svns(5, 10, 3)}, rev, ok, rev, 2024, nil},
		"another module":                {sim{Components: svns(5, 5), TEETCBSVN: svns(3, 3, 3)}, ok, ok, ok, 2024, nil},
		"version 0, by component 0":     {sim{Components: svns(5, 5), TEETCBSVN: svns(5, 0, 3)}, ok, ok, ok, 2024, nil},
		"version 0, component 0 below":  {sim{Components: svns(5, 5), TEETCBSVN: svns(4, 0, 3)}, ood, ood, ood, 2022, []string{"INTEL-SA-00001", "INTEL-SA-00002"}},
		"no level":                      {sim{Components: svns(2, 9), TEETCBSVN: svns(5, 1, 3)}, unm, unm, ok, 2025, nil},
		"no level, no module":           {sim{Components: svns(2, 9), TEETCBSVN: svns(0, 1, 3)}, unm, unm, unm, 2025, nil},
		"component 15 of TDX is higher": {sim{Components: svns(5, 5), TEETCBSVN: [16]uint8{5, 1, 3, 15: 1}}, ok, ok, ok, 2024, nil},
	} {
		for _, g := range kinds {
			c := emulate(t, tdxsim.Options{Guest: g, Platform: tc.p, TCBInfo: tdxsim.TCBInfo{Levels: levels(), Modules: modules()}}).claims(t).TCB
			if c.Status != tc.status || c.Platform != tc.platform || c.Module != tc.module || c.QE != ok || c.Date.Year() != tc.year || !slices.Equal(c.Advisories, tc.advisories) {
				t.Errorf("%s, %+v: %+v", name, g.Version, c)
			}
		}
	}
}

func TestQuotingEnclaveIsJudgedByLevel(t *testing.T) {
	list := []tdxsim.Level{{SVN: 8}, {SVN: 6, Status: "OutOfDate", Date: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Advisories: []string{"INTEL-SA-00009"}}, {SVN: 5, Status: "Revoked"}}
	for svn, want := range map[uint16]evidence.TCBStatus{9: ok, 8: ok, 7: ood, 6: ood, 5: rev, 4: unm} {
		c := emulate(t, tdxsim.Options{Platform: tdxsim.Platform{QESVN: svn}, QE: tdxsim.QEIdentity{Levels: list}}).claims(t).TCB
		if c.Status != want || c.QE != want || c.Platform != ok || c.QESVN != svn {
			t.Errorf("version %d: %+v, want %s", svn, c, want)
		}
		if want == ood && (c.Date.Year() != 2020 || !slices.Equal(c.Advisories, []string{"INTEL-SA-00009"})) {
			t.Errorf("version %d: %+v", svn, c)
		}
	}
}

// A preserving update: the guest runs on a newer module than it was launched on.
func TestBothModulesOfAnUpdatedGuestAreJudged(t *testing.T) {
	for _, tc := range []struct {
		launch, current [16]uint8
		status, now     evidence.TCBStatus
	}{
		{svns(5, 1, 3), svns(6, 1, 3), ok, ok},
		{svns(4, 1, 3), svns(5, 1, 3), rel, ok},
		{svns(4, 1, 3), svns(3, 3, 3), rel, ok}, // of another major version
		{svns(4, 1, 3), svns(4, 1, 3), ood, ood},
		{svns(5, 1, 3), svns(4, 1, 3), ood, ood}, // D6: rolled back
		{svns(5, 1, 3), svns(5, 2, 3), unm, unm},
		{svns(5, 1, 3), svns(5, 10, 3), rev, rev},
	} {
		for _, body := range []uint16{tdxsim.BodyTD15, tdxsim.BodyTD15ex} {
			c := emulate(t, tdxsim.Options{Guest: tdxsim.Guest{Version: 5, BodyType: body}, Platform: tdxsim.Platform{Components: svns(5, 5), TEETCBSVN: tc.launch, TEETCBSVN2: tc.current},
				TCBInfo: tdxsim.TCBInfo{Levels: levels(), Modules: modules()}}).claims(t).TCB
			if c.Status != tc.status || c.Current != tc.now {
				t.Errorf("%v at launch, %v now: %+v", tc.launch, tc.current, c)
			}
			// Dates and advisories are of both: only version 4.1 has these.
			old := tc.launch[0] == 4 || tc.current[0] == 4
			if slices.Contains(c.Advisories, "INTEL-SA-00001") != old || (c.Date.Year() == 2021) != old {
				t.Errorf("%v at launch, %v now: %v, %v", tc.launch, tc.current, c.Date, c.Advisories)
			}
		}
	}
}

// D5: the module of a major version is the one whose signer its own identity names.
func TestModulesIdentityIsOfItsMajorVersion(t *testing.T) {
	signer := [48]byte{1}
	mask := [8]byte{0xf0}
	list := modules()
	list[1].MRSigner, list[1].Attributes, list[1].Mask = signer, [8]byte{0x10}, mask
	for name, tc := range map[string]struct {
		p      tdxsim.Platform
		refuse bool
	}{
		"its own":                        {tdxsim.Platform{TEETCBSVN: svns(5, 1, 3), MRSignerSEAM: signer, SEAMAttributes: 0x1f}, false},
		"signer of version 0":            {tdxsim.Platform{TEETCBSVN: svns(5, 1, 3), SEAMAttributes: 0x10}, true},
		"attributes of version 0":        {tdxsim.Platform{TEETCBSVN: svns(5, 1, 3), MRSignerSEAM: signer}, true},
		"attribute under the mask":       {tdxsim.Platform{TEETCBSVN: svns(5, 1, 3), MRSignerSEAM: signer, SEAMAttributes: 0x30}, true},
		"version 0 with its own":         {tdxsim.Platform{TEETCBSVN: svns(5, 0, 3)}, false},
		"version 0 with another's":       {tdxsim.Platform{TEETCBSVN: svns(5, 0, 3), MRSignerSEAM: signer}, true},
		"of no identity, by version 0's": {tdxsim.Platform{TEETCBSVN: svns(5, 2, 3)}, false},
		"of no identity, another signer": {tdxsim.Platform{TEETCBSVN: svns(5, 2, 3), MRSignerSEAM: signer}, true},
	} {
		_, err := emulate(t, tdxsim.Options{Platform: tc.p, TCBInfo: tdxsim.TCBInfo{Modules: list}}).verify()
		t.Log(name)
		if tc.refuse {
			wantReason(t, err, ReasonModule)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A status that Intel adds one day does not stop the other levels' platforms, and is accepted by
// no policy.
func TestUnknownStatusIsAClaimOfItsLevelAlone(t *testing.T) {
	list := levels()
	list[0].Status = "Melted"
	for components, want := range map[[16]uint8]evidence.TCBStatus{svns(5, 5): ok, svns(3, 3): "Melted"} {
		c := emulate(t, tdxsim.Options{Platform: tdxsim.Platform{Components: components}, TCBInfo: tdxsim.TCBInfo{Levels: list}}).claims(t).TCB
		if c.Status != want || c.Status.Known() != (want == ok) {
			t.Errorf("%+v, want %s", c, want)
		}
	}
}

// What a broker shows of collateral.
func TestCollateralStatesItsWindowAndNumber(t *testing.T) {
	end := simNow.AddDate(0, 0, 7)
	s := emulate(t, tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{EvaluationNumber: 20, NextUpdate: end}},
		QE: tdxsim.QEIdentity{Document: tdxsim.Document{EvaluationNumber: 19, Issued: simNow.Add(-time.Minute)}}})
	c := mustCollateral(t, s.documents, s.roots)
	from, until := c.Window()
	if !from.Equal(simNow.Add(-time.Minute)) || !until.Equal(end) || c.EvaluationNumber() != 19 || c.CA() != PlatformCA || c.FMSPC() != [6]byte{0x50, 0x80, 0x6f} {
		t.Errorf("%v to %v, number %d, %s, %x", from, until, c.EvaluationNumber(), c.CA(), c.FMSPC())
	}
	if claims := s.claims(t).TCB; !claims.CollateralUntil.Equal(end) || claims.EvaluationNumber != 19 {
		t.Errorf("%+v", claims)
	}
}

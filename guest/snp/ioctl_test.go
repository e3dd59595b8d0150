package snp

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tsm"
)

// guest is the driver behind /dev/sev-guest, with its checks (drivers/virt/coco/sev-guest), a
// host with certificates, and firmware.
type guest struct {
	mu       sync.Mutex
	table    []byte // the host's, at most kernel bytes of it
	kernel   int    // the largest buffer that the driver takes
	noTables bool   // a driver without SNP_GET_EXT_REPORT
	floor    uint32 // the guest's own VMPL
	disabled bool   // the driver has given up its key
	absent   error
	busy     int                                   // so many requests are throttled first
	status   uint32                                // of the firmware's answer
	fail     func(c *call) (info2 uint64, e error) // of a request that was made
	answer   func(response []byte)
	calls    []string
	measured byte   // of the guest's image
	tcb      uint64 // committed
	inside   int
}

func newGuest() *guest { return &guest{kernel: firstCerts} }

func (g *guest) present() error { return g.absent }

func (g *guest) do(c *call) error {
	g.mu.Lock()
	if g.inside++; g.inside > 1 {
		g.mu.Unlock()
		return unix.EDEADLK
	}
	defer func() { g.inside--; g.mu.Unlock() }()
	le := binary.LittleEndian
	info := func(v uint64) { le.PutUint64(c.argument[24:], v) }
	info(0xff)
	if c.argument[0] != 1 {
		return unix.EINVAL
	}
	certs := 0
	switch c.command {
	case 0xc0205300:
		g.calls = append(g.calls, "report")
		if len(c.request) != 96 {
			return unix.EFAULT
		}
	case 0xc0205301:
		return g.derive(c)
	case 0xc0205302:
		if certs = int(le.Uint32(c.request[104:])); len(c.request) != 112 || certs != len(c.certs) {
			return unix.EFAULT
		}
		g.calls = append(g.calls, "extended")
		if g.noTables {
			return unix.ENOTTY
		}
		if certs > g.kernel || certs%4096 != 0 {
			return unix.EINVAL
		}
	default:
		return unix.ENOTTY
	}
	if g.disabled {
		return unix.ENOTTY
	}
	if slices.ContainsFunc(c.request[68:96], func(b byte) bool { return b != 0 }) {
		return unix.EINVAL
	}
	if g.busy > 0 {
		g.busy--
		info(2 << 32)
		return unix.EAGAIN
	}
	if g.fail != nil {
		info2, err := g.fail(c)
		g.disabled = true
		info(info2)
		return err
	}
	if c.command == 0xc0205302 && certs > 0 {
		if pages := (len(g.table) + 4095) / 4096; pages*4096 > certs {
			le.PutUint32(c.request[104:], uint32(pages*4096))
			info(1 << 32)
			return unix.EIO
		}
		clear(c.certs)
		copy(c.certs, g.table)
	}
	info(0)
	g.firmware(c)
	return nil
}

func (g *guest) firmware(c *call) {
	vmpl := binary.LittleEndian.Uint32(c.request[64:])
	clear(c.response[:])
	if vmpl < g.floor || vmpl > 3 {
		c.response[0] = 0x16
		return
	}
	if g.status != 0 {
		binary.LittleEndian.PutUint32(c.response[:], g.status) // beside a report that is not one
	}
	binary.LittleEndian.PutUint32(c.response[4:], 1184)
	copy(c.response[32:], reportOver(c.request[:64], vmpl, false))
	if g.answer != nil {
		g.answer(c.response[:])
	}
}

// old is a collector on a kernel without configfs-tsm.
func old(t *testing.T, g *guest, privilege tsm.Privilege) *Collector {
	t.Helper()
	tr := newTree()
	tr.MkdirErr = fs.ErrNotExist
	c, err := New(Options{Files: tr, Privilege: privilege, guest: g})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKernelWithoutConfigfsIsAskedByIoctl(t *testing.T) {
	g := newGuest()
	g.table = table(guidVCEK, "leaf", guidIssuer, "issuer", guidARK, "root")
	env, err := old(t, g, tsm.Privilege{}).Collect(t.Context(), asked)
	if err != nil || [64]byte(env.Part(evidence.PartSNPReport)[0x50:0x90]) != asked || len(env.Parts)-1 != 3 {
		t.Fatalf("%v, %d certificates", err, len(env.Parts)-1)
	}
	if !slices.Equal(g.calls, []string{"extended"}) {
		t.Errorf("%q", g.calls)
	}
}

func TestIoctlsAreForKernelsWithoutConfigfsAlone(t *testing.T) {
	g := newGuest()
	c, err := New(Options{Files: newTree(), guest: g})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Collect(t.Context(), asked); err != nil || len(g.calls) > 0 {
		t.Errorf("%v, calls %q", err, g.calls)
	}
	for _, mkdir := range []error{unix.ENXIO, unix.EACCES, unix.EIO} {
		tr := newTree()
		tr.MkdirErr = mkdir
		if _, err := New(Options{Files: tr, guest: g}); err == nil {
			t.Errorf("%v: went on to the ioctls", mkdir)
		}
	}
	tr := newTree()
	tr.MkdirErr = fs.ErrNotExist
	for _, absent := range []error{fs.ErrNotExist, fs.ErrPermission} {
		_, err = New(Options{Files: tr, guest: &guest{absent: absent}})
		wantReason(t, err, ReasonNoTEE, "is absent")
	}
}

func TestHostWithoutCertificatesGivesAReport(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*guest)
		calls []string
	}{
		"empty table":              {func(*guest) {}, []string{"extended"}},
		"driver without tables":    {func(g *guest) { g.noTables = true }, []string{"extended", "report"}},
		"table above any buffer":   {func(g *guest) { g.table = make([]byte, 65<<10) }, []string{"extended", "report"}},
		"table above the driver's": {func(g *guest) { g.table = make([]byte, 20<<10) }, []string{"extended", "extended", "report"}},
	} {
		g := newGuest()
		c.spoil(g)
		env, err := old(t, g, tsm.Privilege{}).Collect(t.Context(), asked)
		if err != nil || len(env.Parts)-1 != 0 || !slices.Equal(g.calls, c.calls) {
			t.Errorf("%s: %v, %d certificates, calls %q", name, err, len(env.Parts)-1, g.calls)
		}
	}
}

func TestCertificateBufferGrowsToWhatTheHostNeeds(t *testing.T) {
	g := newGuest()
	g.kernel = 64 << 10
	g.table = append(table(guidVCEK, "leaf"), make([]byte, 19<<10)...)
	env, err := old(t, g, tsm.Privilege{}).Collect(t.Context(), asked)
	if err != nil || len(env.Parts)-1 != 1 || !slices.Equal(g.calls, []string{"extended", "extended"}) {
		t.Errorf("%v, %d certificates, calls %q", err, len(env.Parts)-1, g.calls)
	}
}

// The kernel gives up its key after a failed request; one more would not help.
func TestFailedRequestIsNotRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		info2 uint64
		errno error
		words string
	}{
		"firmware":           {0x1d, unix.EIO, "firmware: error 0x1d; hypervisor: no error"},
		"hypervisor":         {7 << 32, unix.EIO, "firmware: no error; hypervisor: error 0x7"},
		"no errno":           {0x16, nil, "invalid parameter (0x16)"},
		"nobody says why":    {0, unix.EBADMSG, "bad message"},
		"interrupted system": {0, unix.EINTR, "interrupted"},
	} {
		g := newGuest()
		g.fail = func(*call) (uint64, error) { return c.info2, c.errno }
		_, err := old(t, g, tsm.Privilege{}).Collect(t.Context(), asked)
		wantReason(t, err, ReasonDevice, c.words)
		if len(g.calls) != 1 || c.errno != nil && !errors.Is(err, c.errno) {
			t.Errorf("%s: %v after %q", name, err, g.calls)
		}
	}
}

func TestThrottledRequestIsMadeAgainUntilTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest()
		g.busy = 3
		c, start := old(t, g, tsm.Privilege{}), time.Now()
		if _, err := c.Collect(t.Context(), asked); err != nil || time.Since(start) != 3*throttlePause {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		g.busy = 1000
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.Collect(ctx, asked)
		wantReason(t, err, ReasonDevice, "busy")
		if time.Since(start) != 5*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestPrivilegeGoesIntoTheRequest(t *testing.T) {
	g := newGuest()
	g.floor = 2
	env, err := old(t, g, tsm.Level(2)).Collect(t.Context(), asked)
	if err != nil || env.Part(evidence.PartSNPReport)[0x30] != 2 {
		t.Errorf("%v", err)
	}
	_, err = old(t, g, tsm.Privilege{}).Collect(t.Context(), asked)
	wantReason(t, err, ReasonDevice, "below an SVSM")
	g.floor, g.answer = 0, func(r []byte) { r[32+0x30] = 1 }
	_, err = old(t, g, tsm.Level(2)).Collect(t.Context(), asked)
	wantReason(t, err, ReasonDevice, "VMPL 1")
}

func TestAnswersOfTheFirmwareAreChecked(t *testing.T) {
	for name, answer := range map[string]func(*guest){
		"status":      func(g *guest) { g.status = 0x27 }, // the report beside it is whole
		"short":       func(g *guest) { g.answer = func(r []byte) { r[4]-- } },
		"huge":        func(g *guest) { g.answer = func(r []byte) { r[7] = 0xff } },
		"other data":  func(g *guest) { g.answer = func(r []byte) { r[32+0x50] ^= 1 } },
		"no response": func(g *guest) { g.answer = func(r []byte) { clear(r) } },
	} {
		g := newGuest()
		answer(g)
		_, err := old(t, g, tsm.Privilege{}).Collect(t.Context(), asked)
		if wantReason(t, err, ReasonDevice); len(g.calls) != 1 {
			t.Errorf("%s: calls %q", name, g.calls)
		}
	}
}

func TestIoctlsOfManyCallersAreMadeOneAtATime(t *testing.T) {
	g := newGuest()
	c := old(t, g, tsm.Privilege{})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			data := [64]byte{byte(i), 1}
			if env, err := c.Collect(t.Context(), data); err != nil || [64]byte(env.Part(evidence.PartSNPReport)[0x50:0x90]) != data {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// stuck is a device whose ioctl does not return.
type stuck struct {
	*guest
	release chan struct{}
}

func (s stuck) do(c *call) error { <-s.release; return s.guest.do(c) }

func TestIoctlThatNeverReturnsHoldsUpNoCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stuck{newGuest(), make(chan struct{})}
		c := &Collector{newIoctls(s, tsm.Privilege{})}
		_, err := c.Collect(t.Context(), asked)
		wantReason(t, err, ReasonUnresponsive)
		close(s.release)
		if _, err := c.Collect(t.Context(), asked); err != nil {
			t.Errorf("a device that answers again: %v", err)
		}
	})
}

// The system call's argument names the buffers that the answer is written to.
func TestAddressesInTheKernelsStructures(t *testing.T) {
	c := newCall(getExtendedReport, asked, 1, firstCerts)
	le, calls := binary.LittleEndian, 0
	file := filepath.Join(t.TempDir(), "sev-guest")
	if err := (tsm.System{}).Write(file, nil); err == nil {
		t.Fatal("the file is there")
	}
	made := sevGuest{path: "/dev/null", ioctl: func(_, command, argument uintptr) error {
		calls++
		at := func(b *byte) uint64 { return uint64(uintptr(unsafe.Pointer(b))) }
		if command != 0xc0205302 || uint64(argument) != at(&c.argument[0]) ||
			le.Uint64(c.argument[8:]) != at(&c.request[0]) || le.Uint64(c.argument[16:]) != at(&c.response[0]) ||
			le.Uint64(c.request[96:]) != at(&c.certs[0]) || le.Uint32(c.request[104:]) != 16384 || c.request[64] != 1 {
			t.Error("an address or a length is elsewhere")
		}
		return nil
	}}
	if err := errors.Join(made.present(), made.do(c)); err != nil || calls != 1 {
		t.Errorf("%v, %d calls", err, calls)
	}
	made.ioctl = ioctl // the real call, on a device that has no ioctls
	if err := made.do(newCall(getReport, asked, 0, 0)); !errors.Is(err, unix.ENOTTY) {
		t.Error(err)
	}
	made.path = file
	if err := made.do(c); !errors.Is(err, fs.ErrNotExist) || !errors.Is(made.present(), fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestErrorsOfGuestRequestsAreNamed(t *testing.T) {
	for code, want := range map[uint32]string{0: "no error", 0x16: "invalid parameter", 0x27: "invalid key", 0xff: "not asked", 0x31: "0x31"} {
		if got := firmwareError(code); !strings.Contains(got, want) {
			t.Errorf("firmware %#x: %q", code, got)
		}
	}
	for code, want := range map[uint32]string{0: "no error", 1: "too small", 2: "busy", 0xffffffff: "0xffffffff"} {
		if got := vmmError(code); !strings.Contains(got, want) {
			t.Errorf("hypervisor %#x: %q", code, got)
		}
	}
}

// FuzzReportResponse: the answer comes from the firmware, but through the host's memory.
func FuzzReportResponse(f *testing.F) {
	response := make([]byte, responseSize)
	binary.LittleEndian.PutUint32(response[4:], reportSize)
	f.Add(response)
	f.Add(make([]byte, responseSize))
	f.Fuzz(func(t *testing.T, response []byte) {
		padded := make([]byte, responseSize)
		copy(padded, response)
		if data, err := reportOf(padded); err == nil && len(data) != reportSize {
			t.Errorf("a report of %d bytes", len(data))
		}
	})
}

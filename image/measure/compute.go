package measure

import (
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/image/measure/firmware"
	"github.com/anchorhold/anchorhold/image/measure/pcr"
	"github.com/anchorhold/anchorhold/image/measure/tdx"
	"github.com/anchorhold/anchorhold/image/measure/uki"
	"github.com/anchorhold/anchorhold/keybroker/appraise/eventlog"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// computation is one run of Compute.
type computation struct {
	p     Platform
	files files
	out   publication.Statement
	raw   []byte     // of the UKI; nil without one
	image *uki.Image // nil without one
	table []byte     // the disk's partition table; nil without one
}

// Compute reads what the description names below dir, and computes every value that it asks for.
func Compute(p Platform, dir string, made time.Time) (*publication.Statement, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	c := &computation{p: p, files: files{dir: dir}}
	c.out = publication.Statement{Format: publication.Format, Name: p.Name, Made: made.UTC().Truncate(time.Second).Format(time.RFC3339)}
	for _, step := range []func() error{c.readImage, c.tpm, c.snp, c.tdx} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for _, cloud := range p.Clouds {
		c.out.Gaps = append(c.out.Gaps, cloudGaps(cloud)...)
	}
	c.out.Inputs = c.files.inputs
	return &c.out, nil
}

// readImage reads UKI and disk, where there are such.
func (c *computation) readImage() (err error) {
	if c.p.Image.UKI != "" {
		if c.raw, err = c.files.read("image.uki", c.p.Image.UKI, uki.MaxBytes); err != nil {
			return err
		}
		if c.image, err = uki.Open(c.raw); err != nil {
			return fmt.Errorf("image.uki: %s: %w", c.p.Image.UKI, err)
		}
	}
	if c.p.Image.Disk == "" {
		return nil
	}
	return c.files.stream("image.disk", c.p.Image.Disk, func(disk io.ReaderAt) (err error) {
		c.table, err = pcr.PartitionTable(disk)
		return err
	})
}

// value adds a reference value, whose registers are in the order of a boot.
func (c *computation) value(id string, kind evidence.Kind, covers evidence.Coverage, platform string, registers ...register) {
	v := publication.Value{ID: c.p.Name + "/" + id, Kind: string(kind), Covers: string(covers), Platform: platform,
		Registers: map[string]string{}, Checked: map[string]publication.Check{}}
	for _, r := range registers {
		v.Registers[r.name], v.Checked[r.name] = hex.EncodeToString(r.value), r.checked
	}
	c.out.Values = append(c.out.Values, v)
}

// register is one value with what it was checked against.
type register struct {
	name    string
	value   []byte
	checked publication.Check
}

func (c *computation) gap(kind evidence.Kind, platform, why, instead string, registers ...string) {
	c.out.Gaps = append(c.out.Gaps, publication.Gap{Platform: platform, Kind: string(kind), Registers: registers, Why: why, Instead: instead})
}

// replayed reads a log and returns registers of it by number, all of which it must have.
func (c *computation) replayed(role, name string, format eventlog.Format, bank pcr.Bank, numbers ...int) (eventlog.Registers, error) {
	log, err := c.files.read(role, name, eventlog.MaxBytes)
	if err != nil {
		return nil, err
	}
	registers, err := eventlog.Replay(log, format, eventlog.Bank(bank))
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		if len(registers[n]) == 0 {
			return nil, badLog("%s: the log has no event of register %d in bank %s", role, n, bank)
		}
	}
	return registers, nil
}

// tpm computes the PCRs of a boot of the UKI: a value for each phase.
func (c *computation) tpm() error {
	if c.p.TPM.Bank == "" {
		return nil
	}
	if c.image == nil {
		return bad("image.uki is required for PCRs (or --uki)")
	}
	bank, platform := pcr.Bank(c.p.TPM.Bank), "a TPM 2.0, bank "+c.p.TPM.Bank+"; firmware starts the UKI itself"
	programs, err := pcr.PCR4(bank, c.image)
	if err != nil {
		c.gap(evidence.KindVTPM, platform, oneLine(err), "values of a boot: anchorhold evidence verify prints them", "pcr4", "pcr11", "pcr12")
		return nil
	}
	common := []register{{"pcr4", bank.Replay(programs), publication.CheckVectors}, {"pcr12", bank.Zero(), publication.CheckFormula}}
	if c.p.TPM.EventLog == "" {
		c.gap(evidence.KindVTPM, platform, "PCR 7 depends on the firmware's Secure Boot variables, and no event log was given",
			"require.event_log with secure_boot, or a log in tpm.event_log", "pcr7")
	} else {
		log, err := c.replayed("tpm.event_log", c.p.TPM.EventLog, eventlog.TCG, bank, 7)
		if err != nil {
			return err
		}
		common = append(common, register{"pcr7", log[7], publication.CheckReplay})
	}
	phases := pcr.Phases(c.p.Image.Initrd == "systemd")
	for i, last := range phases {
		sections := register{"pcr11", bank.Replay(pcr.PCR11(bank, c.image, phases[:i+1])), publication.CheckVectors}
		c.value("vtpm/"+string(last), evidence.KindVTPM, evidence.CoversImage, platform+"; after phase "+string(last), append(common, sections)...)
	}
	return nil
}

// tdx computes a value for each machine.
func (c *computation) tdx() error {
	for i, m := range c.p.TDX {
		if m.Name == "" {
			m.Name = "qemu"
		}
		if err := c.tdxMachine("tdx["+strconv.Itoa(i)+"]", m); err != nil {
			return err
		}
	}
	return nil
}

// firmware reads the firmware of a machine.
func (c *computation) firmware(role, path string) (*firmware.Image, error) {
	raw, err := c.files.read(role+".firmware", path, firmware.MaxBytes)
	if err != nil {
		return nil, err
	}
	return firmware.Parse(raw)
}

func (c *computation) tdxMachine(role string, m TDXMachine) error {
	image, err := c.firmware(role, m.Firmware)
	if err != nil {
		return err
	}
	mrtd, err := tdx.MRTD(image, tdx.Order(m.PageOrder))
	if err != nil {
		return err
	}
	platform := "TDX, machine " + m.Name + ", pages added " + m.PageOrder
	registers := []register{{"mrtd", mrtd[:], publication.CheckVectors}, {"rtmr3", pcr.SHA384.Zero(), publication.CheckFormula}}
	covers := evidence.CoversFirmware
	rtmr1, err := c.rtmr1(platform)
	if err != nil {
		return err
	}
	if rtmr1 != nil {
		registers, covers = append(registers, register{"rtmr1", rtmr1, publication.CheckFormula}), evidence.CoversImage
	}
	logged, err := c.tdxLog(role, platform, m, rtmr1)
	if err != nil {
		return err
	}
	c.value("tdx/"+m.Name, evidence.KindTDX, covers, platform, append(registers, logged...)...)
	return nil
}

// rtmr1 is the register of what is booted; nil, and a gap, if it cannot be computed.
func (c *computation) rtmr1(platform string) ([]byte, error) {
	why := "RTMR1 covers the UKI and the disk's partition table, and one was not given"
	if c.image != nil && c.table != nil {
		events, err := pcr.RTMR1(c.image, c.table)
		if err == nil {
			return pcr.SHA384.Replay(events), nil
		}
		why = oneLine(err)
	}
	c.gap(evidence.KindTDX, platform, why, "require.event_log.boot with the programs' digests; without it the value covers the firmware alone", "rtmr1")
	return nil, nil
}

// tdxLog takes RTMR0 and RTMR2 out of the machine's log, which must be of this image: its RTMR1 is.
func (c *computation) tdxLog(role, platform string, m TDXMachine, rtmr1 []byte) ([]register, error) {
	if m.EventLog == "" {
		c.gap(evidence.KindTDX, platform, "RTMR0 depends on memory, devices and variables, RTMR2 on what the kernel's stub makes of the initial RAM disk, and no event log was given",
			"require.event_log, or a log in tdx.event_log", "rtmr0", "rtmr2")
		return nil, nil
	}
	log, err := c.replayed(role+".event_log", m.EventLog, eventlog.CCEL, pcr.SHA384, 0, 1, 2)
	if err != nil {
		return nil, err
	}
	if rtmr1 != nil && hex.EncodeToString(log[1]) != hex.EncodeToString(rtmr1) {
		return nil, badLog("%s.event_log: its RTMR1 is %x, computed is %x: the log is of another image, disk or way of booting", role, []byte(log[1]), rtmr1)
	}
	return []register{{"rtmr0", log[0], publication.CheckReplay}, {"rtmr2", log[2], publication.CheckReplay}}, nil
}

package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/systemd/config"
)

// formerDocument is a policy file of format 1, which knew SEV-SNP alone.
type formerDocument struct {
	Format                int           `yaml:"format"`
	ID                    string        `yaml:"id"`
	Version               uint64        `yaml:"version"`
	Description           string        `yaml:"description"`
	NotBefore             string        `yaml:"not_before"`
	NotAfter              string        `yaml:"not_after"`
	AttestationTTLSeconds int           `yaml:"attestation_ttl_seconds"`
	AllowSoftwareTEE      bool          `yaml:"allow_software_tee"`
	AllowMilan            bool          `yaml:"allow_milan"`
	Require               formerRequire `yaml:"require"`
	Waive                 []Waiver      `yaml:"waive"`
	Rules                 []formerRule  `yaml:"rules"`
}

type formerRule struct {
	Resources []string      `yaml:"resources"`
	Roles     []string      `yaml:"roles"`
	Require   formerRequire `yaml:"require"`
}

type formerRequire struct {
	ReferenceValues  []string     `yaml:"reference_values"`
	Products         []string     `yaml:"products"`
	VMPL             *uint32      `yaml:"vmpl"`
	MinimumTCB       []MinimumTCB `yaml:"minimum_tcb"`
	ChipIDs          []string     `yaml:"chip_ids"`
	PlatformInfo     *Bits        `yaml:"platform_info"`
	GuestPolicy      *Bits        `yaml:"guest_policy"`
	IDKeyDigests     []string     `yaml:"id_key_digests"`
	AuthorKeyDigests []string     `yaml:"author_key_digests"`
	HostData         []string     `yaml:"host_data"`
	AgentBuilds      []string     `yaml:"agent_builds"`
	ImageIDs         []string     `yaml:"image_ids"`
	Tenants          []string     `yaml:"tenants"`
	MemoryLimit      *MemoryRange `yaml:"memory_limit"`
	ClockSources     []string     `yaml:"clock_sources"`
	VLEKProviders    []string     `yaml:"vlek_providers"`
}

func (r formerRequire) migrate() Require {
	out := Require{ReferenceValues: r.ReferenceValues, AgentBuilds: r.AgentBuilds, ImageIDs: r.ImageIDs, Tenants: r.Tenants, MemoryLimit: r.MemoryLimit, ClockSources: r.ClockSources}
	snp := RequireSNP{Products: r.Products, VMPL: r.VMPL, MinimumTCB: r.MinimumTCB, ChipIDs: r.ChipIDs, PlatformInfo: r.PlatformInfo, GuestPolicy: r.GuestPolicy,
		IDKeyDigests: r.IDKeyDigests, AuthorKeyDigests: r.AuthorKeyDigests, HostData: r.HostData, VLEKProviders: r.VLEKProviders}
	if !reflect.ValueOf(snp).IsZero() {
		out.SNP = &snp
	}
	return out
}

func errFormer() error {
	return invalid("format: got 1, want 2; 'anchorhold policy migrate FILE' writes the policy anew")
}

// MigrationReason is the reason of each waiver that Migrate adds.
const MigrationReason = "format 1 had no such check"

// Migrate writes a policy of format 1 anew in format 2, with the same meaning, and lists what it
// changed. Its version is the next one. Checks that format 1 did not have are waived in writing;
// replace the waivers by requirements where you can.
func Migrate(yaml []byte) (migrated []byte, changes []string, err error) {
	if len(yaml) > maxPolicyBytes {
		return nil, nil, invalid("got %d bytes, want at most %d", len(yaml), maxPolicyBytes)
	}
	var old formerDocument
	if err := config.Decode(yaml, &old); err != nil {
		var doc Document
		if config.Decode(yaml, &doc) == nil && doc.Format == 2 {
			return nil, nil, invalid("format: got 2, there is nothing to migrate")
		}
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if old.Format != 1 {
		return nil, nil, invalid("format: got %d, want 1: there is nothing to migrate", old.Format)
	}
	doc := Document{Format: 2, ID: old.ID, Version: old.Version + 1, Description: old.Description, NotBefore: old.NotBefore, NotAfter: old.NotAfter,
		AttestationTTLSeconds: old.AttestationTTLSeconds, AllowSoftwareTEE: old.AllowSoftwareTEE, AllowMilan: old.AllowMilan,
		Require: old.Require.migrate(), Waive: slices.Clone(old.Waive)}
	doc.Require.Kinds = []string{string(evidence.KindSNP)}
	for _, r := range old.Rules {
		doc.Rules = append(doc.Rules, Rule{Resources: r.Resources, Roles: r.Roles, Require: r.Require.migrate()})
	}
	changes = []string{
		"format: from 1 to 2",
		fmt.Sprintf("version: from %d to %d", old.Version, doc.Version),
		"require.kinds: [sev-snp], the only kind that format 1 accepted",
		"requirements of SEV-SNP reports stand under sev_snp",
	}
	for _, c := range []int{checkFirmware, checkReportVersion, checkMitigations, checkGuestSVN, checkFamilyID, checkBlockImageID} {
		name := checks()[c].name
		doc.Waive = append(doc.Waive, Waiver{name, MigrationReason})
		changes = append(changes, "waive: "+name+", which format 1 did not check")
	}
	if _, err := compile(doc, nil); err != nil {
		return nil, nil, err
	}
	var b strings.Builder
	writeYAML(&b, reflect.ValueOf(doc), 0)
	return []byte(b.String()), changes, nil
}

// writeYAML writes a structure's fields that are not empty, by their YAML names.
func writeYAML(b *strings.Builder, v reflect.Value, depth int) {
	indent := strings.Repeat("  ", depth)
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Tag.Get("yaml")
		for f.Kind() == reflect.Pointer && !f.IsNil() {
			f = f.Elem()
		}
		if f.Kind() == reflect.Pointer || f.Kind() == reflect.Slice && f.IsNil() || f.Kind() == reflect.Struct && f.IsZero() {
			continue
		}
		if _, optional := v.Field(i).Interface().(bool); f.IsZero() && v.Field(i).Kind() != reflect.Pointer && !optional && f.Kind() != reflect.Slice {
			continue
		}
		b.WriteString(indent + name + ":")
		writeValue(b, f, depth)
	}
}

func writeValue(b *strings.Builder, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		b.WriteString("\n")
		writeYAML(b, v, depth+1)
	case reflect.Slice:
		if v.Len() > 0 && v.Index(0).Kind() == reflect.Struct {
			b.WriteString("\n")
			for i := range v.Len() {
				var item strings.Builder
				writeYAML(&item, v.Index(i), depth+2)
				text := item.String()
				b.WriteString(strings.Repeat("  ", depth+1) + "- " + strings.TrimLeft(text, " "))
			}
			return
		}
		var items []string
		for i := range v.Len() {
			items = append(items, scalar(v.Index(i)))
		}
		b.WriteString(" [" + strings.Join(items, ", ") + "]\n")
	default:
		b.WriteString(" " + scalar(v) + "\n")
	}
}

func scalar(v reflect.Value) string {
	if v.Kind() == reflect.String && !plain(v.String()) {
		return strconv.Quote(v.String())
	}
	return fmt.Sprint(v.Interface())
}

// plain reports whether a text needs no quotes: a word that nothing else can be meant by.
func plain(s string) bool {
	if s == "" || slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(s)) {
		return false
	}
	letter := func(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
	for i := range len(s) {
		if c := s[i]; !letter(c) && (i == 0 || (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' && c != '/') {
			return false
		}
	}
	return true
}

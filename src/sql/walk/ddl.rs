//! Definitions: CREATE, ALTER, DROP, GRANT and their kin.
//!
//! All are of kind ddl. The tables that are named count as written; what stands in them as an
//! expression or a query is walked as such, so that `CREATE RULE ... DO DELETE FROM t` is also a
//! delete. The text of a function (`AS '...'`) is opaque.

use super::names::dotted;
use super::{Act, Done, Kind, Node, Walk, nodes};
use pg_raw_parse::list::NodeList;
use pg_raw_parse::raw;

impl<'a> Walk<'a> {
    pub(super) fn definition(&mut self, node: Node<'a>) -> Done {
        let outer = std::mem::replace(&mut self.kind, Kind::Ddl);
        let done = self.define(node);
        self.kind = outer;
        self.found.kinds.insert(Kind::Ddl);
        // CREATE TABLE AS EXECUTE runs what was prepared.
        let runs = matches!(node, Node::CreateTableAsStmt(_))
            && matches!(self.found.act, Act::Execute { .. });
        if !runs {
            self.found.act = Act::Other;
        }
        done
    }

    fn define(&mut self, node: Node<'a>) -> Done {
        match node {
            Node::CreateStmt(create) => self.create_table(create),
            Node::CreateTableAsStmt(create) => {
                self.statement(create.query())?;
                self.new_table(create.into())
            }
            Node::ViewStmt(view) => {
                self.target(view.view(), Kind::Ddl);
                self.statement(view.query())
            }
            Node::RefreshMatViewStmt(refresh) => self.named(refresh.relation()),
            Node::AlterTableStmt(alter) => {
                self.target(alter.relation(), Kind::Ddl);
                self.each(alter.cmds())
            }
            Node::RenameStmt(rename) => self.named(rename.relation()),
            Node::AlterObjectSchemaStmt(alter) => self.named(alter.relation()),
            Node::AlterOwnerStmt(alter) => self.named(alter.relation()),
            Node::AlterObjectDependsStmt(alter) => self.named(alter.relation()),
            Node::CreateSeqStmt(create) => self.named(create.sequence()),
            Node::AlterSeqStmt(alter) => self.named(alter.sequence()),
            Node::ClusterStmt(cluster) => self.named(cluster.relation()),
            Node::ReindexStmt(reindex) => self.named(reindex.relation()),
            Node::DropStmt(drop) => self.drop(drop),
            Node::GrantStmt(grant) => self.grant(grant),
            Node::CommentStmt(comment) => self.object(comment.objtype, comment.object()),
            Node::SecLabelStmt(label) => self.object(label.objtype, label.object()),
            Node::IndexStmt(index) => {
                self.target(index.relation(), Kind::Ddl);
                self.each(index.index_params())?;
                self.each(index.index_including_params())?;
                self.node(index.where_clause())
            }
            Node::CreateFunctionStmt(create) => self.create_function(create),
            Node::CreateTrigStmt(create) => {
                self.target(create.relation(), Kind::Ddl);
                self.target(create.constrrel(), Kind::Ddl);
                self.function(create.funcname())?;
                self.node(create.when_clause())
            }
            Node::CreateEventTrigStmt(create) => self.function(create.funcname()),
            Node::RuleStmt(rule) => {
                self.target(rule.relation(), Kind::Ddl);
                self.node(rule.where_clause())?;
                rule.actions().into_iter().try_for_each(|action| self.statement(action))
            }
            Node::CreatePolicyStmt(policy) => {
                self.target(policy.table(), Kind::Ddl);
                self.node(policy.qual())?;
                self.node(policy.with_check())
            }
            Node::AlterPolicyStmt(policy) => {
                self.target(policy.table(), Kind::Ddl);
                self.node(policy.qual())?;
                self.node(policy.with_check())
            }
            Node::CreateSchemaStmt(create) => create
                .schema_elts()
                .into_iter()
                .try_for_each(|definition| self.statement(definition)),
            Node::CompositeTypeStmt(create) => {
                self.target(create.typevar(), Kind::Ddl);
                self.each(create.coldeflist())
            }
            Node::CreateDomainStmt(create) => {
                self.type_name(create.type_name())?;
                self.each(create.constraints())
            }
            Node::AlterDomainStmt(alter) => self.node(alter.def()),
            Node::CreatePublicationStmt(create) => self.each(create.pubobjects()),
            Node::AlterPublicationStmt(alter) => self.each(alter.pubobjects()),
            other if is_only_names(other) => Ok(()),
            _ => self.unknown(),
        }
    }

    fn named(&mut self, table: Option<&'a nodes::RangeVar>) -> Done {
        self.target(table, Kind::Ddl);
        Ok(())
    }

    /// A list of tables, all written.
    pub(super) fn targets(&mut self, tables: &'a NodeList, kind: Kind) -> Done {
        for table in tables {
            match table {
                Node::RangeVar(table) => self.target(Some(table), kind),
                _ => self.unknown()?,
            }
        }
        Ok(())
    }

    fn create_table(&mut self, create: &'a nodes::CreateStmt) -> Done {
        self.target(create.relation(), Kind::Ddl);
        self.targets(create.inh_relations(), Kind::Ddl)?;
        self.type_name(create.of_typename())?;
        self.each(create.table_elts())?;
        self.each(create.constraints())?;
        self.node(create.partbound().into())?;
        self.node(create.partspec().into())
    }

    fn create_function(&mut self, create: &'a nodes::CreateFunctionStmt) -> Done {
        for parameter in create.parameters() {
            self.type_name(parameter.arg_type())?;
            self.node(parameter.defexpr())?;
        }
        self.type_name(create.return_type())?;
        match create.sql_body() {
            Node::None => Ok(()),
            body => self.statement(body),
        }
    }

    fn grant(&mut self, grant: &'a nodes::GrantStmt) -> Done {
        let tables = grant.targtype == raw::GrantTargetType::ACL_TARGET_OBJECT
            && [raw::ObjectType::OBJECT_TABLE, raw::ObjectType::OBJECT_SEQUENCE]
                .contains(&grant.objtype);
        // Of any other class they are of other types: not to be looked at.
        if tables {
            for table in grant.objects() {
                self.target(Some(table), Kind::Ddl);
            }
        }
        Ok(())
    }

    fn drop(&mut self, drop: &'a nodes::DropStmt) -> Done {
        drop.objects().into_iter().try_for_each(|object| self.object(drop.remove_type, object))
    }

    /// An object by its class and name: the tables among them, and the table of a column, a
    /// trigger, a rule, a policy or a constraint, count as written.
    fn object(&mut self, class: raw::ObjectType::Type, object: Node<'a>) -> Done {
        let last_is_table = match class {
            raw::ObjectType::OBJECT_TABLE
            | raw::ObjectType::OBJECT_VIEW
            | raw::ObjectType::OBJECT_MATVIEW
            | raw::ObjectType::OBJECT_INDEX
            | raw::ObjectType::OBJECT_SEQUENCE
            | raw::ObjectType::OBJECT_FOREIGN_TABLE => true,
            raw::ObjectType::OBJECT_COLUMN
            | raw::ObjectType::OBJECT_TRIGGER
            | raw::ObjectType::OBJECT_RULE
            | raw::ObjectType::OBJECT_POLICY
            | raw::ObjectType::OBJECT_TABCONSTRAINT => false,
            _ => return Ok(()),
        };
        let Node::NodeList(list) = object else { return self.unknown() };
        let name = if last_is_table { dotted(list) } else { owner(list) };
        match name {
            Some((schema, name)) => {
                self.access(schema, name, Kind::Ddl, true);
                Ok(())
            }
            None => self.unknown(),
        }
    }

    /// The parts of definitions, and the SQL/JSON nodes; what is none of them is unknown.
    pub(super) fn part(&mut self, node: Node<'a>) -> Done {
        match node {
            Node::ColumnDef(column) => {
                self.type_name(column.type_name())?;
                self.node(column.raw_default())?;
                self.each(column.constraints())
            }
            Node::Constraint(constraint) => self.constraint(constraint),
            Node::TableLikeClause(like) => {
                if let Some(table) = like.relation() {
                    self.table(table, Kind::Ddl, false);
                }
                Ok(())
            }
            Node::IndexElem(element) => self.node(element.expr()),
            Node::StatsElem(element) => self.node(element.expr()),
            Node::PartitionSpec(spec) => self.each(spec.part_params()),
            Node::PartitionElem(element) => self.node(element.expr()),
            Node::PartitionBoundSpec(bound) => {
                self.each(bound.listdatums())?;
                self.each(bound.lowerdatums())?;
                self.each(bound.upperdatums())
            }
            Node::PartitionCmd(command) => {
                self.target(command.name(), Kind::Ddl);
                self.node(command.bound().into())
            }
            Node::AlterTableCmd(command) => match command.def() {
                Node::RangeVar(table) => self.named(Some(table)),
                other => self.node(other),
            },
            Node::ReplicaIdentityStmt(_) | Node::ATAlterConstraint(_) => Ok(()),
            Node::PublicationObjSpec(object) => {
                let Some(table) = object.pubtable() else { return Ok(()) };
                self.target(table.relation(), Kind::Ddl);
                self.node(table.where_clause())
            }
            other => self.json(other),
        }
    }

    fn constraint(&mut self, constraint: &'a nodes::Constraint) -> Done {
        self.target(constraint.pktable(), Kind::Ddl);
        self.node(constraint.raw_expr())?;
        self.node(constraint.where_clause())?;
        // EXCLUDE: pairs of an element and an operator.
        for pair in constraint.exclusions() {
            let Node::NodeList(pair) = pair else { return self.unknown() };
            for part in pair {
                match part {
                    Node::NodeList(operator) => self.operator(operator),
                    other => self.node(other)?,
                }
            }
        }
        Ok(())
    }
}

/// The table of `[schema.]table.part`.
fn owner(list: &NodeList) -> Option<(Option<&str>, &str)> {
    let (mut schema, mut table, mut part) = (None, None, None);
    for name in list {
        let Node::String(name) = name else { return None };
        schema = table;
        table = part;
        part = Some(name.sval().unwrap_or_default());
    }
    Some((schema, table?))
}

/// Definitions that name roles, types, functions, servers and options, but neither tables nor
/// expressions.
fn is_only_names(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::AlterCollationStmt(_)
            | Node::AlterDatabaseRefreshCollStmt(_)
            | Node::AlterDatabaseSetStmt(_)
            | Node::AlterDatabaseStmt(_)
            | Node::AlterDefaultPrivilegesStmt(_)
            | Node::AlterEnumStmt(_)
            | Node::AlterEventTrigStmt(_)
            | Node::AlterExtensionContentsStmt(_)
            | Node::AlterExtensionStmt(_)
            | Node::AlterFdwStmt(_)
            | Node::AlterForeignServerStmt(_)
            | Node::AlterFunctionStmt(_)
            | Node::AlterOpFamilyStmt(_)
            | Node::AlterOperatorStmt(_)
            | Node::AlterRoleSetStmt(_)
            | Node::AlterRoleStmt(_)
            | Node::AlterStatsStmt(_)
            | Node::AlterSubscriptionStmt(_)
            | Node::AlterSystemStmt(_)
            | Node::AlterTSConfigurationStmt(_)
            | Node::AlterTSDictionaryStmt(_)
            | Node::AlterTableMoveAllStmt(_)
            | Node::AlterTableSpaceOptionsStmt(_)
            | Node::AlterTypeStmt(_)
            | Node::AlterUserMappingStmt(_)
            | Node::CreateAmStmt(_)
            | Node::CreateCastStmt(_)
            | Node::CreateConversionStmt(_)
            | Node::CreateEnumStmt(_)
            | Node::CreateExtensionStmt(_)
            | Node::CreateFdwStmt(_)
            | Node::CreateForeignServerStmt(_)
            | Node::CreateOpClassStmt(_)
            | Node::CreateOpFamilyStmt(_)
            | Node::CreatePLangStmt(_)
            | Node::CreateRangeStmt(_)
            | Node::CreateRoleStmt(_)
            | Node::CreateSubscriptionStmt(_)
            | Node::CreateTableSpaceStmt(_)
            | Node::CreateTransformStmt(_)
            | Node::CreateUserMappingStmt(_)
            | Node::CreatedbStmt(_)
            | Node::DefineStmt(_)
            | Node::DropOwnedStmt(_)
            | Node::DropRoleStmt(_)
            | Node::DropSubscriptionStmt(_)
            | Node::DropTableSpaceStmt(_)
            | Node::DropUserMappingStmt(_)
            | Node::DropdbStmt(_)
            | Node::GrantRoleStmt(_)
            | Node::ImportForeignSchemaStmt(_)
            | Node::ReassignOwnedStmt(_)
    )
}
